"""Detections drawn onto frames."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.runtime.detections import Detections

Image = NDArray[np.uint8]

PIXELS_A_LINE = 320
"""A frame of so many pixels across its shorter side has lines one pixel wide; wider frames have wider ones."""
LETTER_SHARE = 1 / 1100
UNTRACKED = -1
GREY = (120, 120, 120)
LUMA, BRIGHT = (0.299, 0.587, 0.114), 128
"""Weights of red, green and blue, and from what on a ground takes black letters."""


def draw_boxes(image: Image, detections: Detections, class_names: Sequence[str]) -> Image:
    """A frame uint8 RGB (H, W, 3) with a rectangle a box, and class and score next to it; a new array.

    Boxes that are tracked have the colour and the number of their track, those without a track are grey, and where nothing is
    tracked boxes have the colour of their class. Words stand above their box, or where that would hide those of a better box, below it or
    inside. Frames of odd width or height get one more column or row, which most players need.
    """
    height, width = image.shape[:2]
    result = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    line = max(1, round(min(height, width) / PIXELS_A_LINE))
    best_first = np.argsort(-detections.scores, kind="stable").tolist()
    taken = np.zeros((len(best_first), 4), np.int64)
    labels: list[_Label] = []
    for count, k in enumerate(best_first):
        labels.append(_label_of(result, detections, k, class_names, taken[:count]))
        taken[count] = labels[-1].area
    for k in reversed(best_first):
        x1, y1, x2, y2 = _corners(detections, k)
        cv2.rectangle(result, (x1, y1), (x2 - 1, y2 - 1), _colour_of(detections, k), line)
    for label in reversed(labels):
        label.draw(result)
    return result


@dataclass(frozen=True)
class _Label:
    """Words on a ground of one colour. area: left, top, right, bottom, right and bottom outside; base: of the letters, below their line."""

    text: str
    area: tuple[int, int, int, int]
    base: int
    scale: float
    colour: tuple[int, int, int]

    def draw(self, image: Image) -> None:
        left, top, right, bottom = self.area
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), self.colour, -1)
        bright = float(np.dot(self.colour, LUMA)) > BRIGHT
        letters = (0, 0, 0) if bright else (255, 255, 255)
        place = (left, bottom - self.base + self.base // 2)
        cv2.putText(image, self.text, place, cv2.FONT_HERSHEY_SIMPLEX, self.scale, letters, 1, cv2.LINE_AA)


def _corners(detections: Detections, k: int) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = np.round(detections.boxes[k]).astype(int).tolist()
    return x1, y1, x2, y2


def _track_of(detections: Detections, k: int) -> int:
    return UNTRACKED if detections.track_ids is None else int(detections.track_ids[k])


def _colour_of(detections: Detections, k: int) -> tuple[int, int, int]:
    if detections.track_ids is None:
        return _colour(int(detections.labels[k]))
    track = _track_of(detections, k)
    return GREY if track == UNTRACKED else _colour(track)


def _colour(number: int) -> tuple[int, int, int]:
    """Neighbouring numbers get hues far apart."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1.0, 0.7, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def _label_of(image: Image, detections: Detections, k: int, class_names: Sequence[str], taken_N4: NDArray[np.int64]) -> _Label:
    """The words of a box, in the first of its places that hides none of `taken_N4`; above its corner where each does."""
    track = _track_of(detections, k)
    number = "" if track == UNTRACKED else f"#{track} "
    text = f"{number}{class_names[int(detections.labels[k])]} {detections.scores[k]:.2f}"
    scale = max(0.35, min(image.shape[:2]) * LETTER_SHARE)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    height += base
    x1, y1, x2, y2 = _corners(detections, k)
    places = ((x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2), (x1, y1), (x1, y2 - height))
    areas = [(left, top, left + width, top + height) for left, top in places]
    above = _inside(image, *areas[0])
    free = (area for area in (above, *areas[1:]) if area == _inside(image, *area) and not _meets(area, taken_N4))
    area = next(free, above)
    return _Label(text, area, base, scale, _colour_of(detections, k))


def _inside(image: Image, left: int, top: int, right: int, bottom: int) -> tuple[int, int, int, int]:
    """The same area, moved into the frame."""
    over, under = max(0, min(left, image.shape[1] - (right - left))), max(0, min(top, image.shape[0] - (bottom - top)))
    return over, under, over + right - left, under + bottom - top


def _meets(area: tuple[int, int, int, int], others_N4: NDArray[np.int64]) -> bool:
    """Whether an area shares a pixel with any of others."""
    left, top, right, bottom = area
    return bool(((others_N4[:, 0] < right) & (left < others_N4[:, 2]) & (others_N4[:, 1] < bottom) & (top < others_N4[:, 3])).any())
