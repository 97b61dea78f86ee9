"""A performance suite: loader, training step, losses, start, flow, anticipation, detection and streams, measured in turn with peers."""

import dataclasses
import importlib
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkd.base.cores import available_cores
from vidkd.base.errors import ConfigError

PartName = Literal["loader", "training", "distillation", "losses", "start", "flow", "along_video", "streams", "integers"]
KIND = "vidkd-performance"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SuiteConfig:
    """A performance suite.

    Args:
        name: of the suite; it is written to runs/<name>.
        parts: what is measured.
        rounds: rounds that count.
        workers: loader processes; by default the cores that this process may use.
        threads: threads of a training step; by default 2, or 1 on one core.
        videos: folder of videos to measure the loader on; by default generated ones.
        quick: as little as shows that everything runs; the numbers mean nothing.
    """

    name: str = "performance"
    parts: list[PartName] = field(default_factory=list)
    rounds: int = 5
    workers: int | None = None
    threads: int | None = None
    videos: str | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        if not self.parts or self.rounds < 1:
            raise ConfigError("a suite needs parts, and at least one round", found=f"parts {self.parts}, rounds {self.rounds}")


def read_suite(path: Path, overrides: Sequence[str] = ()) -> SuiteConfig:
    """Read a suite, with flags (--rounds 3 --parts [start]) over it. Raises ConfigError for what is unknown or of a wrong type."""
    from vidkd.base.settings import load_settings

    return load_settings(SuiteConfig, path, overrides=overrides)


def run_suite(config: SuiteConfig, command: str) -> dict[str, Any]:
    """Measure all parts in turn; the content of performance.json."""
    from vidkd.engine.devices import keep_freed_memory
    from vidkd.engine.environment import environment

    keep_freed_memory()  # as training does
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vidkd-benchmark-") as scratch:
        setting, videos = _setting(config, Path(scratch))
        parts = {name: _run(name, setting) for name in config.parts}
    return {
        "schema_version": 1,
        "kind": KIND,
        "command": command,
        "videos": videos,
        "environment": environment(),
        "seconds": round(time.monotonic() - start, 1),
        "parts": parts,
    }


def _setting(config: SuiteConfig, scratch: Path) -> tuple[Any, str]:
    """What the parts are given, and the videos in words."""
    from vidkd.bench.performance.rows import Setting
    from vidkd.bench.performance.videos import FPS, FRAMES, generated_sets, users_set
    from vidkd.video.writer import GOP_FRAMES

    cores = available_cores()
    if config.videos:
        sets = [users_set(Path(config.videos))]
        videos = f"{len(sets[0].clips)} of the folder `{sets[0].name}`"
    else:
        sets = generated_sets(scratch / "videos", clips=4 if config.quick else 12)
        sizes = " and ".join(each.name for each in sets)
        videos = f"{len(sets[0].clips)} generated ones of {sizes} each, H.264, {FRAMES / FPS:g} s, a key frame every {GOP_FRAMES} frames"
    setting = Setting(
        sets=sets,
        scratch=scratch,
        rounds=2 if config.quick else config.rounds,
        workers=config.workers or cores,
        threads=config.threads or min(2, cores),
        quick=config.quick,
    )
    return setting, videos


def _run(name: PartName, setting: Any) -> Mapping[str, Any]:
    log.info("measuring: %s", name)
    start = time.monotonic()
    module = "training" if name == "distillation" else name
    found = importlib.import_module(f"vidkd.bench.performance.{module}")
    part = (found.run_distillation if name == "distillation" else found.run)(setting)
    for row in part.ratios:
        log.info("  %s: %s (%s to %s)", row["name"], row["median"], row["min"], row["max"])
    return {**dataclasses.asdict(part), "seconds": round(time.monotonic() - start, 1)}
