"""Detections drawn onto frames."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.runtime.detections import Detections

Image = NDArray[np.uint8]

PIXELS_A_LINE = 320
"""A frame of so many pixels across its shorter side has lines one pixel wide; wider frames have wider ones."""
LETTER_SHARE = 1 / 1100
UNTRACKED = -1


def draw_boxes(image: Image, detections: Detections, class_names: Sequence[str]) -> Image:
    """A frame uint8 RGB (H, W, 3) with a rectangle a box, and class and score above it; a new array.

    Boxes that are tracked have the colour and the number of their track, others the colour of their class. Frames of odd width or height
    get one more column or row, which most players need.
    """
    height, width = image.shape[:2]
    result = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    line = max(1, round(min(height, width) / PIXELS_A_LINE))
    weakest_first = np.argsort(detections.scores, kind="stable")
    for k in weakest_first.tolist():
        _draw_box(result, detections, k, class_names, line)
    return result


def _draw_box(image: Image, detections: Detections, k: int, class_names: Sequence[str], line: int) -> None:
    track = UNTRACKED if detections.track_ids is None else int(detections.track_ids[k])
    label = int(detections.labels[k])
    colour = _colour(label if track == UNTRACKED else track)
    x1, y1, x2, y2 = np.round(detections.boxes[k]).astype(int).tolist()
    cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), colour, line)
    number = "" if track == UNTRACKED else f"#{track} "
    _draw_label(image, f"{number}{class_names[label]} {detections.scores[k]:.2f}", (x1, y1), colour)


def _colour(number: int) -> tuple[int, int, int]:
    """Neighbouring numbers get hues far apart, all dark enough for white letters."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1.0, 0.7, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_label(image: Image, text: str, corner: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """White on the colour, above the corner; inside the frame where there is no room above or to the right."""
    scale = max(0.35, min(image.shape[:2]) * LETTER_SHARE)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left = max(0, min(corner[0], image.shape[1] - width))
    top = max(0, corner[1] - height - base)
    cv2.rectangle(image, (left, top), (left + width - 1, top + height + base - 1), colour, -1)
    cv2.putText(image, text, (left, top + height + base // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
