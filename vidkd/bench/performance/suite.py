"""A performance suite: loader, training step, losses, start, flow, anticipation, detection and streams, measured in turn with peers."""

import dataclasses
import functools
import importlib
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vidkd.base.cores import available_cores
from vidkd.base.errors import ConfigError
from vidkd.base.timing import timed
from vidkd.bench.performance.videos import CLIPS_A_SIZE, FPS, FRAMES, QUICK_CLIPS, SIZES, ClipSet, generated_set
from vidkd.bench.speed.rounds import interleave
from vidkd.engine.devices import environment, keep_freed_memory
from vidkd.video.writer import GOP_FRAMES

log = logging.getLogger(__name__)

WHERE = {"distillation": "training", "losses": "training", "flow": "loader", "start": "suite"}
"""Modules of parts that have none of their own."""


@dataclass(frozen=True, kw_only=True)
class SuiteConfig:
    """A performance suite.

    Args:
        name: of the suite; it is written to runs/<name>.
        parts: what is measured.
        rounds: rounds that count.
        workers: loader processes; by default the cores that this process may use.
        threads: threads of a training step; by default 2, or 1 on one core.
        quick: as little as shows that everything runs; the numbers mean nothing.
    """

    name: str = "performance"
    parts: list[
        Literal["loader", "training", "frozen", "distillation", "losses", "start", "flow", "along_video", "streams", "integers"]
    ] = field(default_factory=list)
    rounds: int = 5
    workers: int | None = None
    threads: int | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        if not self.parts or self.rounds < 1:
            raise ConfigError("a suite needs parts, and at least one round", found=f"parts {self.parts}, rounds {self.rounds}")


def run_suite(config: SuiteConfig, command: str) -> dict[str, Any]:
    """Measure all parts in turn; the content of performance.json."""
    keep_freed_memory()  # as training does
    begun, cores, parts = time.monotonic(), available_cores(), {}
    clips = QUICK_CLIPS if config.quick else CLIPS_A_SIZE
    with tempfile.TemporaryDirectory(prefix="vidkd-benchmark-") as scratch:
        setting = Setting(
            scratch=Path(scratch),
            rounds=2 if config.quick else config.rounds,
            workers=config.workers or cores,
            threads=config.threads or min(2, cores),
            quick=config.quick,
        )
        for name in config.parts:
            log.info("measuring: %s", name)
            start = time.monotonic()
            module = importlib.import_module(f"vidkd.bench.performance.{WHERE.get(name, name)}")
            part = getattr(module, f"measure_{name}")(setting)
            for row in part.ratios:
                log.info("  %s: %s (%s to %s)", row["name"], row["median"], row["min"], row["max"])
            parts[name] = {**dataclasses.asdict(part), "seconds": round(time.monotonic() - start, 1)}
    sizes = " and ".join(f"{width}x{height}" for width, height in SIZES)
    return {
        "schema_version": 1,
        "kind": "vidkd-performance",
        "command": command,
        "videos": f"{clips} generated ones of {sizes} each, H.264, {FRAMES / FPS:g} s, a key frame every {GOP_FRAMES} frames",
        "environment": environment(),
        "seconds": round(time.monotonic() - begun, 1),
        "parts": parts,
    }


Measured: TypeAlias = Callable[[], float]
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every part is given.

    scratch: folder for what the parts write. rounds: rounds that count. workers: loader processes.
    threads: threads of training. quick: as little as shows that everything runs.
    """

    scratch: Path
    rounds: int
    workers: int
    threads: int
    quick: bool

    @functools.cached_property
    def sets(self) -> list[ClipSet]:
        """Generated videos, a set of each size, the largest first."""
        clips = QUICK_CLIPS if self.quick else CLIPS_A_SIZE
        return [generated_set(self.scratch / "videos", *size, clips=clips) for size in SIZES]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one part measured, as in the results and on the page.

    settings: the conditions. values: rows of `value_row`. ratios: rows of `ratio_row`. notes: sentences, rivals left out among them.
    """

    title: str
    text: str
    settings: Mapping[str, str | int | float]
    values: list[Row] = field(default_factory=list)
    ratios: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def compare(
        self, alternatives: Mapping[str, Measured], unit: str, ratios: Iterable[tuple[str, str, str]] = (), *, rounds: int, where: str = ""
    ) -> dict[str, list[float]]:
        """Measure alternatives in turn, and add a row for each and for each of `ratios`: above, below, and the target ("" for none).

        where: added to all names. Returns what was measured, by name and round.
        """
        measured = interleave(alternatives, rounds=rounds)
        self.values.extend(value_row(f"{name}{where}", unit, found) for name, found in measured.items())
        self.ratios.extend(
            ratio_row(f"{above} / {below}{where}", measured[above], measured[below], target) for above, below, target in ratios
        )
        return measured


def milliseconds(call: Callable[[], object], calls: int = 1) -> float:
    """Mean milliseconds of so many calls, the first included."""
    return 1e3 * timed(lambda: [call() for _ in range(calls)]) / calls


def per_second(work: Callable[[], object], count: int) -> float:
    """Items a second of work that is `count` of them."""
    return count / timed(work)


def value_row(name: str, unit: str, values: Sequence[float], target: str = "") -> Row:
    """Median and range of the rounds of one alternative, to four digits; with a target (`<= 0.1`), whether the median meets it."""
    numbers = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    row: Row = {"name": name, "unit": unit, **{key: float(f"{value:.4g}") for key, value in numbers.items()}, "n": len(values)}
    if target:
        sign, bound = target.split()
        row |= {"target": target, "met": row["median"] <= float(bound) if sign == "<=" else row["median"] >= float(bound)}
    return row


def ratio_row(name: str, above: Sequence[float], below: Sequence[float], target: str = "") -> Row:
    """The same of the ratios `above` / `below` of each round."""
    return value_row(name, "", [a / b for a, b in zip(above, below, strict=True)], target)


ROOT = Path(__file__).resolve().parents[3]
BARE, IMPORT, TORCH = "python -c pass", "import vidkd", "import torch"
COMMANDS = {
    BARE: ["-c", "pass"],
    IMPORT: ["-c", "import vidkd"],
    "vidkd --help": ["-m", "vidkd.cli.main", "--help"],
    "vidkd train --help": ["-m", "vidkd.cli.main", "train", "--help"],
    TORCH: ["-c", "import torch"],
}


def measure_start(setting: Setting) -> Part:
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
