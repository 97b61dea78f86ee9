"""The crop of a window's footage that a classifier sees."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.data.footage import Footage
from vidkd.data.transforms import Geometry, crop_flow, crop_frames
from vidkd.runtime.metadata import View


def crop_view(view: View, footage: Footage, geometry: Geometry) -> NDArray[Any]:
    """RGB uint8, or flow float32 in pixels of the crop, (C, T, size, size)."""
    if view == "flow" and footage.flow is not None:
        array: NDArray[Any] = crop_flow(footage.flow, geometry)
    else:
        array = crop_frames(footage.frames, geometry)
    return np.ascontiguousarray(array.transpose(3, 0, 1, 2))
