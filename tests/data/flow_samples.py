"""Two small videos that pan, and how their flow is extracted and asked for."""

from pathlib import Path
from typing import Any

import numpy as np

from vidkd.data.flow_extract import ExtractConfig, extract_clip
from vidkd.data.observation import Window

FRAMES, STEP = 14, 2
DIS = ExtractConfig(method="dis", flow_step=STEP, short_side=32)


def extract(root: Path, out: Path, config: ExtractConfig, *paths: str) -> list[dict[str, Any]]:
    settings = config.settings()
    return [extract_clip(path, root=root, out=out, config=config, settings=settings) for path in paths or ("in/right.mp4", "left.mp4")]


def window(*frames: int, step: int = STEP, last: int = FRAMES - 1) -> Window:
    numbers = np.array(frames, np.int64)
    return Window(numbers, np.minimum(numbers + step, last))
