"""Optical flow computed on the fly: pairs a second of the DIS presets, and decoding the frames."""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidkd.bench.performance.rows import Measured, Part, Setting, per_second
from vidkd.bench.performance.videos import FPS, moving_textures
from vidkd.data.flow import Preset, dis_flow
from vidkd.video import open_video, write_video

SIZES = ((320, 240), (96, 72))
PRESETS: tuple[Preset, ...] = ("ultrafast", "fast", "medium")
STEP = 4
DECODED = 100


def run(setting: Setting) -> Part:
    """Every preset at every size, and decoding at that size."""
    cv2.setNumThreads(1)
    pairs = 8 if setting.quick else 32
    part = Part(
        title="Optical flow",
        text=f"`dis_flow` between frames {STEP} apart, conversion to grey included, and decoding an H.264 video of the same size from "
        "its first frame on, file opening included. Frames or pairs a second; a ratio is the time of a pair to that of a decoded frame.",
        settings={"threads": 1, "pairs a round": pairs, "decoded frames a round": DECODED, "cv2": str(cv2.__version__)},
    )
    for width, height in SIZES:
        path = setting.scratch / f"flow-{width}x{height}.mp4"
        frames = np.stack(list(moving_textures(width, height, DECODED, seed=0)))
        write_video(path, frames, fps=FPS)
        work: dict[str, Measured] = {"decode in order": partial(per_second, partial(_decode, path), DECODED)}
        for preset in PRESETS:
            flow = partial(dis_flow, frames[:pairs], frames[STEP : STEP + pairs], preset=preset)
            work[f"DIS {preset}"] = partial(per_second, flow, pairs)
        ratios = [("decode in order", f"DIS {preset}", "") for preset in PRESETS]
        part.compare(work, "a second", ratios, rounds=setting.rounds, where=f", {width}x{height}")
    return part


def _decode(path: Path) -> Any:
    with open_video(path) as video:
        return video.frames_at_indices(range(DECODED))
