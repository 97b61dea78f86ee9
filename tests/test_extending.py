"""The worked example of docs/extending.md: its files and lines, in a copy of the tree, pass ruff and the tests that a new method meets."""

import os
import re
import shutil
import sys
from pathlib import Path

from started import run_to_end

REPOSITORY = Path(__file__).parents[1]
BLOCK = re.compile(r'^```\w+ title="([^"(]+?)(?: \(before ([^"]+)\))?"\n(.*?)^```', re.MULTILINE | re.DOTALL)
MEET = (
    "losses/test_relational.py",
    "tasks/test_tasks.py",
    "engine/test_config.py",
    "compress/test_steps.py",
    "test_configs.py",
    "test_docs.py",
)


def test_a_method_that_is_added_by_the_page_passes_ruff_and_tests(tmp_path: Path) -> None:
    for folder in ("vidkd", "configs", "tests", "docs"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "mkdocs.yml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    blocks = BLOCK.findall((REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8"))
    assert len(blocks) == 9
    for name, before, content in blocks:
        path = tmp_path / name
        if before:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            (number,) = (number for number, line in enumerate(lines) if before in line)
            content = "".join([*lines[:number], content, *lines[number:]])
        path.write_text(content, encoding="utf-8")
    (tmp_path / "docs" / "methods" / "relational_kd.md").write_text("# Relational KD\n", encoding="utf-8")
    python = [path for path, before, _ in blocks if path.endswith(".py")]
    for command in (["check"], ["format", "--check"]):
        run = run_to_end([sys.executable, "-m", "ruff", *command, "--no-cache", *python], cwd=tmp_path)
        assert run.returncode == 0, run.stdout
    tests = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-m", "not slow", *(f"tests/{name}" for name in MEET)]
    chosen = "relational or data_set_for_every or different_configurations"
    run = run_to_end([*tests, "-k", chosen], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert run.returncode == 0, run.stdout
    for test in ("refused_by_who_matches_logits", "test_two_steps", "test_the_first_line", "test_a_method_has_a_page", "test_closed_form"):
        assert re.search(rf"{test}\S* PASSED", run.stdout), f"{test} was not run:\n{run.stdout}"
