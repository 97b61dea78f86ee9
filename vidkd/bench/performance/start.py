"""Seconds until `import vidkd` and the help are there, each in a new process, less the start of the interpreter."""

import subprocess
import sys
from functools import partial
from pathlib import Path

from vidkd.base.timing import timed
from vidkd.bench.performance.rows import Part, Setting, value_row

ROOT = Path(__file__).resolve().parents[3]
BARE, IMPORT, TORCH = "python -c pass", "import vidkd", "import torch"
COMMANDS = {
    BARE: ["-c", "pass"],
    IMPORT: ["-c", "import vidkd"],
    "vidkd --help": ["-m", "vidkd.cli.main", "--help"],
    "vidkd train --help": ["-m", "vidkd.cli.main", "train", "--help"],
    TORCH: ["-c", "import torch"],
}


def run(setting: Setting) -> Part:
    """All commands in turn."""
    part = Part(
        title="Start",
        text=f"Seconds of a new process, and less those of `{BARE}` in the same round. The ratios compare whole processes.",
        settings={"python": sys.version.split()[0]},
    )
    processes = {name: partial(_seconds, [sys.executable, *words]) for name, words in COMMANDS.items()}
    ratios = [(name, TORCH, "<= 1") for name in COMMANDS if name.endswith("--help")]
    measured = part.compare(processes, "s", ratios, rounds=3 if setting.quick else max(setting.rounds, 7))
    for name in list(COMMANDS)[1:]:
        beyond = [max(0.0, a - b) for a, b in zip(measured[name], measured[BARE], strict=True)]
        part.values.append(value_row(f"{name}, beyond {BARE}", "s", beyond, "<= 0.1" if name == IMPORT else ""))
    return part


def _seconds(command: list[str]) -> float:
    return timed(lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL))
