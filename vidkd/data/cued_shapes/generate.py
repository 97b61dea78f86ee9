"""Write the data set: every video on its own, so that the work spreads over processes and goes on after an interruption."""

import functools
import time
from pathlib import Path

from vidkd.data.cued_shapes.config import CuedShapesConfig
from vidkd.data.cued_shapes.files import cued_video_path
from vidkd.data.cued_shapes.scene import draw_cued_scene, render_cued
from vidkd.data.cued_shapes.truth import write_truth
from vidkd.data.motion_shapes.generate import MotionShapesWritten, claim, write_missing
from vidkd.video import write_video

# raised whenever the same config would give other frames
GENERATOR_VERSION = 1


def write_cued_shapes(out: Path | str, config: CuedShapesConfig | None = None, *, workers: int | None = None) -> MotionShapesWritten:
    """Write videos, manifest.jsonl, truth.jsonl and config.json under `out`, keeping whole videos that lie there.

    workers: processes (default: one a CPU; 0 or 1: this process). The decoded frames depend on the config alone, not on `workers`.
    Raises ConfigError if `out` holds another config's data set, DataError if it holds other files in videos/ or a video cannot be written.
    """
    started = time.perf_counter()
    out, config = Path(out), config or CuedShapesConfig()
    claim(out, config, GENERATOR_VERSION)
    paths = list(_numbers_by_path(config))
    written = write_missing(out, paths, functools.partial(_write_video, out=str(out), config=config), workers)
    write_truth(out, config)
    return MotionShapesWritten(
        out=out,
        train=config.files_train * config.episodes,
        test=config.files_test * config.episodes,
        written=written,
        kept=len(paths) - written,
        seconds=time.perf_counter() - started,
    )


@functools.lru_cache(maxsize=1)
def _numbers_by_path(config: CuedShapesConfig) -> dict[str, int]:
    return {cued_video_path(number): number for number in range(1, config.files_train + config.files_test + 1)}


def _write_video(path: str, *, out: str, config: CuedShapesConfig) -> None:
    frames = render_cued(config, draw_cued_scene(config, _numbers_by_path(config)[path]))
    target = Path(out, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_video(target, iter(frames), fps=config.fps)
