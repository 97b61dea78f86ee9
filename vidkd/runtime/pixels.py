"""Frames as a network's input: letterboxed, normalised, quantised, laid out."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.runtime.letterbox import Letterbox
from vidkd.runtime.metadata import InputFormat
from vidkd.runtime.network import Port

PixelTable: TypeAlias = NDArray[np.float32] | NDArray[np.int32]


def pixel_table(form: InputFormat, port: Port) -> PixelTable:
    """What each pixel value becomes in each channel of the input: (256, 3), float32 for a floating input, otherwise int32.

    Channels are in the order of `form.colour`. Raises ValueError if the input holds whole numbers and has no quantisation while mean, std
    or pixel_max ask for others.
    """
    values = np.arange(256)[:, None] * (form.pixel_max / 255)
    values = (values - np.asarray(form.mean)) / np.asarray(form.std)
    if np.issubdtype(port.dtype, np.floating):
        return np.asarray(values, np.float32)
    if not np.issubdtype(port.dtype, np.integer):
        raise ValueError(f"input '{port.name}' does not hold numbers that are known here")
    limits = np.iinfo(port.dtype)
    if port.quantisation:
        scale, zero = port.quantisation
        return np.asarray((values / scale + zero).round().clip(limits.min, limits.max), np.int32)
    if (values != values.round()).any() or values.min() < limits.min or values.max() > limits.max:
        raise ValueError(f"input '{port.name}' holds plain {port.dtype}: pixel_max, mean and std must leave pixels in its range")
    return np.asarray(values, np.int32)


def fill_input(
    frames: NDArray[np.uint8],
    form: InputFormat,
    box: Letterbox,
    table: PixelTable,
    dtype: np.dtype[np.generic],
) -> NDArray[np.generic]:
    """RGB frames (B, H, W, 3) as an input in the layout, colour order and type of the network; table: of `pixel_table`."""
    width, height = form.size
    flip = -1 if form.colour == "bgr" else 1
    batch = np.empty((len(frames), 3, height, width) if form.layout == "NCHW" else (len(frames), height, width, 3), dtype)
    look_up = np.ascontiguousarray(table[None, :, ::flip])
    for place, frame in zip(batch, frames, strict=True):
        values = cv2.LUT(box.apply(frame, form.fill), look_up)[..., ::flip]
        place[...] = values.transpose(2, 0, 1) if form.layout == "NCHW" else values
    return batch
