"""Text, detections and attention drawn onto frames."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.runtime.detections import Detections

FONT = cv2.FONT_HERSHEY_SIMPLEX
GOLDEN = 0.618034
DIM, FULL = 0.45, 4.0
Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
PIXELS_A_LINE = 320
"""A frame of so many pixels across its shorter side has lines one pixel wide; wider frames have wider ones."""
LETTER_SHARE = 1 / 1100
UNTRACKED = -1
GREY = (120, 120, 120)
LUMA, BRIGHT = (0.299, 0.587, 0.114), 128
"""Weights of red, green and blue, and from what on a ground takes black letters."""


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


def heat(
    image: Image,
    attention: NDArray[np.floating],
    square: tuple[int, int, int, int] | None = None,
    shift_cells: float = 0.0,
    most: float | None = None,
) -> Image:
    """Blend a map (h, w) that sums to one into a square (top, left, bottom, right) of a frame, by default all of it; the rest is dimmed.

    Transparent where attention is at or below even, red at `most`, by default the map's maximum; a map that is nearly even stays pale, for
    red is at least FULL times the even share. shift_cells: displacement of the map's grid, see `vidkd.models.backbone.Stage`.
    """
    top, left, bottom, right = square or (0, 0, *image.shape[:2])
    even, most = 1.0 / attention.size, float(attention.max()) if most is None else most
    above = np.clip((attention - even) / (max(most, FULL * even) - even), 0, 1).astype(np.float32)
    smooth = np.clip(spread_map(above, bottom - top, right - left, shift_cells), 0, 1)
    colour = cv2.applyColorMap((smooth * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1].astype(np.float32)
    result = image.astype(np.float32) * DIM
    inside = image[top:bottom, left:right].astype(np.float32)
    alpha = 0.65 * smooth[..., None]
    result[top:bottom, left:right] = inside * (1 - alpha) + colour * alpha
    return np.asarray(result.round(), np.uint8)


def spread_map(cells: NDArray[np.float32], height: int, width: int, shift_cells: float = 0.0) -> NDArray[np.float32]:
    """A map (h, w) smoothly enlarged to (height, width), its grid displaced by `shift_cells` cells to the lower right; edges are held."""
    large = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    if not shift_cells:
        return np.asarray(large)
    move = np.array([[1, 0, shift_cells * width / cells.shape[1]], [0, 1, shift_cells * height / cells.shape[0]]])
    return np.asarray(cv2.warpAffine(large, move, (width, height), borderMode=cv2.BORDER_REPLICATE))
