"""Flow stored once by `extract_flow`, read like any video."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.data.windows import Window


def read_stored_flow(folder: Path, clip_path: str, window: Window) -> NDArray[np.float32]:
    """Flow of `window` from `folder`: float32 (T, H, W, 2) in pixels per flow step, at the size at which it was stored."""
    raise DataError(f"no stored flow for {clip_path} in {folder}", to_mend="vidkd extract_flow --help")
