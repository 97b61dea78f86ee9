"""A performance suite: loader, training step, losses, start, flow, anticipation, detection and streams, measured in turn with peers."""

import dataclasses
import importlib
import logging
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkd.base.cores import available_cores
from vidkd.base.errors import ConfigError

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
        quick: as little as shows that everything runs; the numbers mean nothing.
    """

    name: str = "performance"
    parts: list[Literal["loader", "training", "distillation", "losses", "start", "flow", "along_video", "streams", "integers"]] = field(
        default_factory=list
    )
    rounds: int = 5
    workers: int | None = None
    threads: int | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        if not self.parts or self.rounds < 1:
            raise ConfigError("a suite needs parts, and at least one round", found=f"parts {self.parts}, rounds {self.rounds}")


def run_suite(config: SuiteConfig, command: str) -> dict[str, Any]:
    """Measure all parts in turn; the content of performance.json."""
    from vidkd.bench.performance.rows import Setting
    from vidkd.bench.performance.videos import CLIPS_A_SIZE, FPS, FRAMES, QUICK_CLIPS, SIZES
    from vidkd.engine.devices import environment, keep_freed_memory
    from vidkd.video.writer import GOP_FRAMES

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
            part = importlib.import_module(f"vidkd.bench.performance.{name}").run(setting)
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
