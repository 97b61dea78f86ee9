"""Attention drawn onto the frames of a video, as another video."""

import bisect
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import VideoError
from vidkd.inference.predict import WindowPrediction
from vidkd.report.annotate import fitted, heat, size_of, write
from vidkd.video import VIEWING_CRF, VideoWriter, open_video


def write_overlay(
    source: Path, destination: Path, predictions: Iterable[WindowPrediction], classes: Sequence[str], *, fps: float | None = None
) -> int:
    """Draw each frame's attention and the class in force onto the frames of `source`; returns the frames written.

    The map is heat inside the square that the network saw; what it did not see is dimmed. A frame belongs to the window whose middle is
    nearest. Source size, frame rate and timestamps are kept; fps: frames a second of a
    sequence of images. Raises VideoError if a file cannot be read or written, or both are one.
    """
    if destination.exists() and source.exists() and destination.samefile(source):
        raise VideoError(f"the overlay would replace the video that it is drawn from: {source}", hint="name another file")
    windows = sorted(predictions, key=_middle_s)
    with open_video(source, sequence_fps=fps) as video, VideoWriter(destination, fps=video.info.average_fps, crf=VIEWING_CRF) as writer:
        count = 0
        for frame in video.stream():
            writer.write(draw(frame.image, nearest_window(windows, frame.time_s), frame.index, classes), time_s=frame.time_s)
            count += 1
    return count


def nearest_window(windows: Sequence[WindowPrediction], time_s: float) -> WindowPrediction:
    """The window whose middle is nearest to a time; the windows' middles must rise."""
    after = bisect.bisect_left(windows, time_s, key=_middle_s)
    return min(windows[max(after - 1, 0) : after + 1], key=lambda window: abs(_middle_s(window) - time_s))


def _middle_s(window: WindowPrediction) -> float:
    return (window.start_s + window.end_s) / 2


def draw(image: NDArray[np.uint8], window: WindowPrediction, frame: int, classes: Sequence[str]) -> NDArray[np.uint8]:
    """One frame uint8 (H, W, 3) with heat and label; a new array."""
    result = image
    if window.attention is not None:
        result = heat(image, attention_at(window, frame), square_of(window, image.shape[0], image.shape[1]), window.shift_cells)
    best = int(window.probabilities.argmax())
    return label(result, f"{classes[best]} {window.probabilities[best]:.2f}")


def attention_at(window: WindowPrediction, frame: int) -> NDArray[np.float64]:
    """The map (h, w) nearest in time to a frame of the video: maps are spread evenly over the window's frames."""
    assert window.attention is not None
    first, last = int(window.frames[0]), int(window.frames[-1])
    share = 0.0 if last == first else np.clip((frame - first) / (last - first), 0, 1)
    steps = len(window.attention)
    return np.asarray(window.attention[min(int(share * steps), steps - 1)])


def square_of(window: WindowPrediction, height: int, width: int) -> tuple[int, int, int, int]:
    """The square that the network saw, as top, left, bottom, right of a frame of this size."""
    scale_y, scale_x = height / window.size[0], width / window.size[1]
    geometry = window.geometry
    top, left = geometry.top * scale_y, geometry.left * scale_x
    return round(top), round(left), round(top + geometry.side * scale_y), round(left + geometry.side * scale_x)


def label(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Write a line at the top left, white on black, in a size that suits the frame; text that is too wide is scaled down."""
    result = np.ascontiguousarray(image).copy()
    scale = fitted(text, max(0.35, image.shape[0] / 480), image.shape[1] - 8)
    width, height, base = size_of(text, scale)
    cv2.rectangle(result, (0, 0), (width + 8, height + base + 6), (0, 0, 0), -1)
    write(result, text, 4, height + 3, (255, 255, 255), scale)
    return result
