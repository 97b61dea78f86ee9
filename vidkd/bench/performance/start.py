"""Seconds until `import vidkd` and the help are there, each in a new process, less the start of the interpreter."""

import subprocess
import sys
from functools import partial
from pathlib import Path

from vidkd.base.timing import timed
from vidkd.bench.performance.rows import Part, Setting, ratio_row, value_row
from vidkd.bench.speed.rounds import interleave

ROOT = Path(__file__).resolve().parents[3]
BARE, IMPORT, HELP, TRAIN_HELP, TORCH = "python -c pass", "import vidkd", "vidkd --help", "vidkd train --help", "import torch"
COMMANDS = {
    BARE: ["-c", "pass"],
    IMPORT: ["-c", "import vidkd"],
    HELP: ["-m", "vidkd.cli.main", "--help"],
    TRAIN_HELP: ["-m", "vidkd.cli.main", "train", "--help"],
    TORCH: ["-c", "import torch"],
}


def run(setting: Setting) -> Part:
    """All commands in turn."""
    rounds = 3 if setting.quick else max(setting.rounds, 7)
    measured = interleave({name: partial(_seconds, words) for name, words in COMMANDS.items()}, rounds=rounds)
    net = {name: beyond(seconds, measured[BARE]) for name, seconds in measured.items() if name != BARE}
    rows = [value_row(BARE, "s", measured[BARE])]
    rows += [value_row(f"{name}, beyond {BARE}", "s", found, at_most=0.1 if name == IMPORT else None) for name, found in net.items()]
    return Part(
        title="Start",
        text=f"Seconds of a new process less those of `{BARE}` in the same round. The ratios compare whole processes.",
        settings={"python": sys.version.split()[0]},
        values=rows,
        ratios=[ratio_row(f"{name} / {TORCH}", measured[name], measured[TORCH], at_most=1.0) for name in (HELP, TRAIN_HELP)],
    )


def beyond(seconds: list[float], base: list[float]) -> list[float]:
    """What each round took longer than the base in the same round; never less than nothing."""
    return [max(0.0, a - b) for a, b in zip(seconds, base, strict=True)]


def _seconds(words: list[str]) -> float:
    command = [sys.executable, *words]
    return timed(lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL))
