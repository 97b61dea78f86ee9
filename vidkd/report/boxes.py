"""Detections drawn onto frames."""

from collections.abc import Sequence

import cv2
import numpy as np

from vidkd.report.letters import Colour, Image, hue_of, size_of, write
from vidkd.runtime.detections import Detections

PIXELS_A_LINE = 320
"""A frame of so many pixels across its shorter side has lines one pixel wide; wider frames have wider ones."""
LETTER_SHARE = 1 / 1100
UNTRACKED = -1
GREY = (120, 120, 120)
LUMA, BRIGHT = (0.299, 0.587, 0.114), 128
"""Weights of red, green and blue, and from what on a ground takes black letters."""


def draw_boxes(image: Image, detections: Detections, class_names: Sequence[str]) -> Image:
    """A frame uint8 RGB (H, W, 3) with a rectangle a box, and class and score above it, of better boxes on top; a new array.

    Boxes that are tracked have the colour and the number of their track, those without a track are grey, and where nothing is
    tracked boxes have the colour of their class. Frames of odd width or height get one more column or row, which most players need.
    """
    height, width = image.shape[:2]
    result = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    line, scale = max(1, round(min(height, width) / PIXELS_A_LINE)), max(0.35, min(height, width) * LETTER_SHARE)
    best_last = np.argsort(-detections.scores, kind="stable")[::-1].tolist()
    corners = np.round(detections.boxes).astype(int).tolist()
    for k in best_last:
        x1, y1, x2, y2 = corners[k]
        cv2.rectangle(result, (x1, y1), (x2 - 1, y2 - 1), _colour_of(detections, k), line)
    for k in best_last:
        track = UNTRACKED if detections.track_ids is None else int(detections.track_ids[k])
        number = "" if track == UNTRACKED else f"#{track} "
        text = f"{number}{class_names[int(detections.labels[k])]} {detections.scores[k]:.2f}"
        _label(result, text, corners[k][0], corners[k][1], _colour_of(detections, k), scale)
    return result


def _colour_of(detections: Detections, k: int) -> Colour:
    if detections.track_ids is None:
        return hue_of(int(detections.labels[k]))
    track = int(detections.track_ids[k])
    return GREY if track == UNTRACKED else hue_of(track)


def _label(image: Image, text: str, left: int, bottom: int, ground: Colour, scale: float) -> None:
    """Words on a ground of one colour above a corner, moved into the frame."""
    width, height, base = size_of(text, scale)
    left = max(0, min(left, image.shape[1] - width))
    bottom = max(bottom, height + base)
    cv2.rectangle(image, (left, bottom - height - base), (left + width - 1, bottom - 1), ground, -1)
    bright = float(np.dot(ground, LUMA)) > BRIGHT
    write(image, text, left, bottom - base + base // 2, (0, 0, 0) if bright else (255, 255, 255), scale)
