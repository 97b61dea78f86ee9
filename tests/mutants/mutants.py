"""Puts one listed fault at a time into a copy of the library and runs the tests that must fail for it: `make mutants`.

Exits with 1 if a fault is missed (its tests pass) or broken (its text is not found exactly once, or pytest ends in anything but failed
tests).
"""

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("vidkd", "tests", "configs", "tools", "benchmarks", "docs", "pyproject.toml", "Makefile", "README.md")
LIMIT_S = 600
PROVES_NOTHING = ("NameError", "ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError")
"""Errors of a patch that does not fit its surroundings: any test would fail."""


@dataclass(frozen=True)
class Mutant:
    """A fault: `old`, found exactly once in `file`, becomes `new`; `tests` are the pytest ids or files of which one must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: caught, missed or broken; `reason` is the first failing test, or why it is broken."""

    mutant: Mutant
    outcome: str
    seconds: float
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:7} {self.mutant.name:45} {self.seconds:5.1f} s  {self.reason}".rstrip()


def mutated(text: str, mutant: Mutant) -> str:
    """The file's text with the fault. Raises ValueError if the patch does not apply or leaves no Python."""
    found = text.count(mutant.old)
    if found != 1:
        raise ValueError(f"patch does not apply: its text occurs {found} times in {mutant.file}")
    changed = text.replace(mutant.old, mutant.new)
    compile(changed, mutant.file, "exec")
    return changed


def judge(mutant: Mutant, tree: Path) -> Verdict:
    """Put the fault into the tree, run its tests, undo it."""
    start, path = time.monotonic(), tree / mutant.file
    if not path.is_file():
        return Verdict(mutant, "broken", 0.0, f"patch does not apply: {mutant.file} is missing")
    text = path.read_text(encoding="utf-8")
    try:
        changed = mutated(text, mutant)
    except (SyntaxError, ValueError) as error:
        return Verdict(mutant, "broken", 0.0, str(error))
    try:
        replace(path, changed)
        code, output = run_tests(tree, mutant.tests)
    finally:
        replace(path, text)
    outcome, reason = verdict_of(code, output)
    return Verdict(mutant, outcome, time.monotonic() - start, reason)


def verdict_of(code: int, output: str) -> tuple[str, str]:
    """Outcome and reason from pytest's exit code and its short summary."""
    failed = re.search(r"^(?:FAILED|ERROR) (.+)$", output, re.MULTILINE)
    first = failed.group(1) if failed else ""
    if code == 0:
        return "missed", ""
    if code != 1 or any(f" - {name}" in first for name in PROVES_NOTHING):
        return "broken", f"pytest exit code {code}: {first or output.strip()[-300:]}"
    return "caught", first.split(" - ")[0]


def replace(path: Path, text: str) -> None:
    """Write a module and drop its compiled form, which is looked up by whole seconds and size alone."""
    path.write_text(text, encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def run_tests(tree: Path, tests: Sequence[str], limit_s: float | None = LIMIT_S) -> tuple[int, str]:
    """Pytest's exit code and output for some tests of a tree, stopped at the first failure; without the real videos."""
    kept = {name: value for name, value in os.environ.items() if name not in ("VIDKD_DATA", "PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS")}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests]
    try:
        environment = {**kept, "PYTHONPATH": str(tree)}
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return -1, f"no end within {limit_s} s"
    return done.returncode, done.stdout + done.stderr


def copied(root: Path, target: Path) -> Path:
    """A copy of what the tests need, without compiled modules."""
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def run(mutants: Sequence[Mutant], root: Path = ROOT, workers: int = 2) -> int:
    """Judge all mutants on copies of `root`, one copy a worker; the exit code."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees: queue.Queue[Path] = queue.Queue()
        for number in range(workers):
            trees.put(copied(root, Path(folder) / str(number)))
        named = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        tree = trees.get()
        code, output = run_tests(tree, named, limit_s=None)
        trees.put(tree)
        if code != 0:
            say(f"the tests of the mutants fail without any of them:\n{output}")
            return 1
        say(f"unmutated: {output.strip().splitlines()[-1]}")

        def one(mutant: Mutant) -> Verdict:
            mine = trees.get()
            try:
                return judge(mutant, mine)
            finally:
                trees.put(mine)

        verdicts = []
        with ThreadPoolExecutor(workers) as pool:
            for done in as_completed([pool.submit(one, mutant) for mutant in mutants]):
                verdicts.append(done.result())
                say(str(verdicts[-1]))
    counts = {outcome: sum(verdict.outcome == outcome for verdict in verdicts) for outcome in ("caught", "missed", "broken")}
    say(f"{len(verdicts)} mutants: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 0 if counts["caught"] == len(verdicts) else 1


def say(text: str) -> None:
    """One line at once, through pipes too."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    from faults_learning import LEARNING
    from faults_streams import STREAMS
    from faults_studies import STUDIES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", metavar="SUBSTRING", help="only the mutants whose name or file contains it")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time, each on its own copy of the tree")
    options = parser.parse_args(arguments)
    chosen = [mutant for mutant in (*LEARNING, *STREAMS, *STUDIES) if options.k in mutant.name or options.k in mutant.file]
    if not chosen:
        parser.error(f"no mutant's name or file contains '{options.k}'")
    return run(chosen, workers=options.workers)


if __name__ == "__main__":
    sys.modules["mutants"] = sys.modules["__main__"]  # the lists import Mutant from here
    sys.exit(main())
