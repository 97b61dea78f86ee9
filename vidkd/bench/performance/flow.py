"""Optical flow computed on the fly: pairs a second of the DIS presets, and decoding the frames."""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.timing import timed
from vidkd.bench.performance.rows import Measured, Part, Row, Setting, ratio_row, value_row
from vidkd.bench.performance.videos import FPS, moving_textures
from vidkd.bench.speed.rounds import interleave
from vidkd.data.flow import Preset, dis_flow
from vidkd.video import open_video, write_video

SIZES = ((320, 240), (96, 72))
PRESETS: tuple[Preset, ...] = ("ultrafast", "fast", "medium")
STEP = 4
DECODED = 100


def run(setting: Setting) -> Part:
    """Every preset at every size, and decoding at that size."""
    cv2.setNumThreads(1)
    values: list[Row] = []
    ratios: list[Row] = []
    pairs = 8 if setting.quick else 32
    for width, height in SIZES:
        measured = interleave(_alternatives(setting.scratch, width, height, pairs), rounds=setting.rounds)
        decoding = measured.pop("decode")
        values.append(value_row(f"decode in order, {width}x{height}", "frames/s", decoding))
        values += [value_row(f"DIS {name}, {width}x{height}", "pairs/s", found) for name, found in measured.items()]
        ratios += [
            ratio_row(f"time of a DIS {name} pair / of decoding a frame, {width}x{height}", decoding, found)
            for name, found in measured.items()
        ]
    return Part(
        title="Optical flow",
        text=f"`dis_flow` between frames {STEP} apart, conversion to grey included, and decoding an H.264 video of the same size from "
        "its first frame on, file opening included.",
        settings={"threads": 1, "pairs a round": pairs, "decoded frames a round": DECODED, "cv2": str(cv2.__version__)},
        values=values,
        ratios=ratios,
    )


def _alternatives(scratch: Path, width: int, height: int, pairs: int) -> dict[str, Measured]:
    path = scratch / "flow" / f"{width}x{height}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.stack(list(moving_textures(width, height, DECODED, seed=0)))
    write_video(path, frames, fps=FPS)
    presets: dict[str, Measured] = {preset: partial(_pairs_per_second, frames, preset, pairs) for preset in PRESETS}
    return {"decode": partial(_frames_per_second, path), **presets}


def _frames_per_second(path: Path) -> float:
    def decode() -> Any:
        with open_video(path) as video:
            return video.frames_at_indices(range(DECODED))

    return DECODED / timed(decode)


def _pairs_per_second(frames: NDArray[np.uint8], preset: Preset, pairs: int) -> float:
    return pairs / timed(lambda: dis_flow(frames[:pairs], frames[STEP : STEP + pairs], preset=preset))
