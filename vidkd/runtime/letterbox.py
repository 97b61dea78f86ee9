"""Fitting a frame into the fixed input of a network, and boxes there and back."""

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

# How a frame meets an input of another shape.
# centre: aspect kept, sides rounded to the nearest pixel, picture in the middle (YOLOv5, YOLOv8).
# darknet: the same with sides rounded down, as darknet's own letterbox; the AlexeyAB fork stretches by default.
# top_left: aspect kept, sides rounded down, picture in the upper left corner (YOLOX).
# stretch: both sides scaled apart, nothing padded.
ResizeMode = Literal["centre", "darknet", "top_left", "stretch"]
RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)
# The same for a reader.
RESIZE_WORDS: dict[ResizeMode, str] = {
    "centre": "letterbox: aspect kept, nothing cut, the picture in the middle, padded",
    "darknet": "letterbox as darknet's: aspect kept, nothing cut, sides rounded down, the picture in the middle, padded",
    "top_left": "aspect kept, nothing cut, the picture in the upper left corner, padded to the right and below",
    "stretch": "stretch: both sides scaled apart, nothing padded or cut",
}


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """Place of a frame in a network's input; all in whole pixels. Build it with `Letterbox.fit`.

    A frame of source_width x source_height is resized to width x height and placed left and top pixels from the corner of an input of
    input_width x input_height; an odd remainder goes to the right or below. The scales are those of the resized picture itself, one for
    each axis, so that `to_frame` inverts `to_input` in every mode; the published decoders divide by one ratio for both axes, and darknet's
    takes half pixels of padding, which moves boxes by up to a pixel of the input.
    """

    source_width: int
    source_height: int
    input_width: int
    input_height: int
    width: int
    height: int
    left: int
    top: int

    @classmethod
    def fit(cls, source: tuple[int, int], target: tuple[int, int], mode: ResizeMode = "centre") -> "Letterbox":
        """The geometry for frames of source (width, height) in an input of target (width, height)."""
        width, height = target if mode == "stretch" else _inside(source, target, nearest=mode == "centre")
        centred = mode in ("centre", "darknet")
        return cls(
            source_width=source[0],
            source_height=source[1],
            input_width=target[0],
            input_height=target[1],
            width=width,
            height=height,
            left=(target[0] - width) // 2 if centred else 0,
            top=(target[1] - height) // 2 if centred else 0,
        )

    @property
    def scale(self) -> tuple[float, float]:
        """Input pixels per frame pixel, along x and along y."""
        return self.width / self.source_width, self.height / self.source_height

    def apply(self, frame: NDArray[np.uint8], fill: int = 114) -> NDArray[np.uint8]:
        """A frame (H, W, C) in an input (input_height, input_width, C), bilinear without smoothing, the rest filled with `fill` (0..255).

        A frame that has the input's size already is returned itself, not copied.
        """
        if (self.width, self.height) != (self.source_width, self.source_height):
            resized = cv2.resize(frame, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
            frame = resized.reshape(self.height, self.width, -1)
        if (self.width, self.height) == (self.input_width, self.input_height):
            return frame
        canvas = np.full((self.input_height, self.input_width, frame.shape[2]), fill, np.uint8)
        canvas[self.top : self.top + self.height, self.left : self.left + self.width] = frame
        return canvas

    def to_input(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Boxes (N, 4) x1 y1 x2 y2 in frame pixels as pixels of the input."""
        return np.asarray(boxes, np.float64).reshape(-1, 4) * (self.scale * 2) + ((self.left, self.top) * 2)

    def to_frame(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Boxes (N, 4) x1 y1 x2 y2 in input pixels as pixels of the frame, not clipped to it; the inverse of `to_input`."""
        return (np.asarray(boxes, np.float64).reshape(-1, 4) - ((self.left, self.top) * 2)) / (self.scale * 2)


def _inside(source: tuple[int, int], target: tuple[int, int], *, nearest: bool) -> tuple[int, int]:
    """The largest size of the source's shape inside the target. In integers: in floats 768 * (416 / 768) may come out below 416."""
    (width, height), (most_width, most_height) = source, target
    if most_width * height <= most_height * width:
        return most_width, max(1, _divide(height * most_width, width, nearest=nearest))
    return max(1, _divide(width * most_height, height, nearest=nearest)), most_height


def _divide(numerator: int, denominator: int, *, nearest: bool) -> int:
    """The quotient rounded down, or to the nearest whole number (halves to the even one, as Python's round)."""
    whole, rest = divmod(numerator, denominator)
    if nearest and (2 * rest > denominator or (2 * rest == denominator and whole % 2)):
        return whole + 1
    return whole
