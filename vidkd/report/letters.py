"""Words and colours drawn onto pictures."""

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

FONT = cv2.FONT_HERSHEY_SIMPLEX
GOLDEN = 0.618034
Image = NDArray[np.uint8]
Colour = tuple[int, int, int]


def hue_of(number: int, saturation: float = 0.7, value: float = 0.75) -> Colour:
    """A colour (R, G, B) of a class or track: neighbouring numbers get hues far apart."""
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def size_of(text: str, scale: float) -> tuple[int, int, int]:
    """Width and height of a line in pixels, and how far letters reach below its base."""
    (width, height), base = cv2.getTextSize(text, FONT, scale, 1)
    return width, height, base


def write(image: Image, text: str, x: int, base: int, colour: Colour, scale: float) -> None:
    """A line with its base line at `base`, in place."""
    cv2.putText(image, text, (x, base), FONT, scale, colour, 1, cv2.LINE_AA)


def fitted(text: str, scale: float, most: float) -> float:
    """The scale at which a line is at most so many pixels wide, this one at most."""
    return scale * min(1.0, most / max(size_of(text, scale)[0], 1))
