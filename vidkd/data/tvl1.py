"""TV-L1 optical flow (Zach, Pock and Bischof 2007), as OpenCV computes it: slow, for offline extraction."""

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import MissingExtraError
from vidkd.data.flow import check_pairs, grey


@functools.lru_cache(maxsize=1)
def _estimator() -> Any:
    if not hasattr(cv2, "optflow"):
        raise MissingExtraError(
            "TV-L1 flow is not in the OpenCV that is installed",
            installed=f"cv2 {cv2.__version__} without contrib modules",
            hint="uninstall every opencv-* package, then: pip install opencv-contrib-python-headless",
        )
    return cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined, unused-ignore]


def tvl1_settings() -> dict[str, float]:
    """OpenCV's default parameters, by name."""
    names = ("Tau", "Lambda", "Theta", "ScalesNumber", "WarpingsNumber", "Epsilon", "InnerIterations", "OuterIterations", "ScaleStep")
    return {name: getattr(_estimator(), f"get{name}")() for name in names}


def tvl1_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """TV-L1 flow from each frame of `first` to its partner in `second`.

    first, second: uint8 RGB (T, H, W, 3). Returns float32 (T, H, W, 2): dx to the right, dy downwards, in pixels.
    Raises DataError for frames of unlike shape or under 16 pixels a side, MissingExtraError if OpenCV was built without contrib modules.
    """
    check_pairs(first, second)
    flows = [_estimator().calc(grey(a), grey(b), None) for a, b in zip(first, second, strict=True)]
    return np.stack(flows).astype(np.float32)
