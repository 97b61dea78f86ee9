"""Predictions drawn onto the frames of a video, as another video: attention and the class in force, or what is expected next."""

import bisect
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import VideoError
from vidkd.inference.anticipate import Decision
from vidkd.inference.predict import WindowPrediction
from vidkd.report.annotate import Colour, Image, fitted, heat, hue_of, size_of, write
from vidkd.video import VIEWING_CRF, Frame, VideoWriter, open_video

LEAST_WIDTH = 480
PAST_S = 8.0
PANEL_SHARE = 0.24
TONES = ((0.6, 0.75), (0.3, 0.7), (0.9, 0.55))  # dark enough for white letters
SMALL = 0.7  # of the size of the other text: legend and foot
UNSURE = 0.2  # how much of its colour is left of a class of probability 0
STRIP_GROUND = (44, 47, 52)
GROUND, MUTED, WHITE, MARK = (24, 26, 30), (120, 126, 134), (240, 240, 240), (255, 214, 64)


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


class OverlayWriter:
    """Writes frames with the panel below them, at the frames' own times; the file is there when the context ends without an error.

    Frames narrower than LEAST_WIDTH are enlarged by a whole number, so that the panel can be read. seconds: spent drawing and encoding.
    Raises VideoError if the file cannot be written, or is left without a frame.
    """

    def __init__(self, path: Path, classes: Sequence[str], *, fps: float, step_s: float, top: int = 3) -> None:
        self._path, self._classes, self._fps, self._step_s, self._top = path, classes, fps, step_s, top
        self._writer: VideoWriter | None = None
        self._panel: Panel | None = None
        self.seconds = 0.0

    def write(self, frame: Frame, decisions: Iterable[Decision]) -> None:
        """Append a frame, before which these decisions were made."""
        start = time.perf_counter()
        height, width = frame.image.shape[:2]
        zoom = math.ceil(LEAST_WIDTH / width)
        if self._writer is None or self._panel is None:
            self._panel = Panel(width * zoom, panel_height(height * zoom, width * zoom), self._classes, step_s=self._step_s, top=self._top)
            self._writer = VideoWriter(self._path, fps=self._fps, crf=VIEWING_CRF)
        self._panel.add(decisions)
        picture = frame.image.repeat(zoom, 0).repeat(zoom, 1) if zoom > 1 else frame.image
        self._writer.write(np.concatenate([picture, self._panel.draw(frame.time_s)]), time_s=frame.time_s)
        self.seconds += time.perf_counter() - start

    def __enter__(self) -> "OverlayWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)


def panel_height(height: int, width: int) -> int:
    """Pixels of the panel below a picture; with them the whole has an even height, as most players want it."""
    below = round(PANEL_SHARE * width)
    return below + (height + below) % 2


class Panel:
    """On the left the decision in force with its best classes, on the right the decisions of the last seconds, each at its `about_s`.

    A class has one colour throughout, and those in the strip are named below it as far as there is room.
    Decisions that neither the strip nor the text shows any more are forgotten.
    """

    def __init__(self, width: int, height: int, classes: Sequence[str], *, step_s: float, top: int = 3) -> None:
        self.width, self.height = width, height
        self._classes, self._step_s, self._top = classes, step_s, min(top, len(classes))
        self._decisions: deque[Decision] = deque()
        self._scale = width / 1100
        self._row = height / 5.5

    def __len__(self) -> int:
        return len(self._decisions)

    def add(self, decisions: Iterable[Decision]) -> None:
        """Take further decisions, in the order of their times."""
        self._decisions.extend(decisions)

    def draw(self, now_s: float) -> Image:
        """The panel (height, width, 3) at a time of the video."""
        while len(self._decisions) > 1 and self._decisions[1].about_s < now_s - PAST_S:
            self._decisions.popleft()
        image = np.full((self.height, self.width, 3), GROUND, np.uint8)
        if not self._decisions:
            self._text(image, "nothing seen yet", 0, 0.0, self.width / 2, MUTED)
            return image
        last = self._decisions[-1]
        self._draw_best(image, last)
        self._draw_strip(image, now_s, last)
        return image

    def _draw_best(self, image: Image, decision: Decision) -> None:
        """The headline and a bar for each of the best classes."""
        best = (-decision.probabilities).argsort(kind="stable")[: self._top]
        when = f"in {decision.gap_s:.1f} s" if decision.gap_s else "now"
        half = 0.46 * self.width
        self._text(image, f"{when}: {self._named(int(best[0]), decision)}", 0, 0.0, half, WHITE)
        self._text(image, f"decided at {decision.time_s:.1f} s", 1, 0.0, half, MUTED)
        for row, k in enumerate(best[:3], 2):
            left, top = round(0.02 * self.width), round((row + 0.35) * self._row)
            right = left + round(float(decision.probabilities[k]) * (half - 2 * left))
            cv2.rectangle(image, (left, top), (max(right, left + 1), top + round(0.8 * self._row)), colour_of(int(k)), -1)
            self._text(image, self._named(int(k), decision), row, 0.01 * self.width, half, WHITE)

    def _draw_strip(self, image: Image, now_s: float, last: Decision) -> None:
        """Every decision a column at the time of which it speaks, its best classes stacked, paler the less sure it is of each.

        White: now, yellow: the last decision.
        """
        left, right = round(0.5 * self.width), self.width - round(0.02 * self.width)
        top, bottom = round(0.12 * self.height), round(3.0 * self._row)
        begin_s, end_s = now_s - PAST_S, now_s + last.gap_s + self._step_s

        def across(time_s: float) -> int:
            return left + round(min(max((time_s - begin_s) / (end_s - begin_s), 0.0), 1.0) * (right - left))

        cv2.rectangle(image, (left, top), (right, bottom), STRIP_GROUND, -1)
        shown: dict[int, float] = {}
        for decision in self._decisions:
            low, start, end = bottom, across(decision.about_s), across(decision.about_s + self._step_s)
            for k in sorted((-decision.probabilities).argsort(kind="stable")[: self._top].tolist()):
                probability = float(decision.probabilities[k])
                high = low - round(probability * (bottom - top))
                if end > start and high < low:
                    cv2.rectangle(image, (start, high), (end - 1, low - 1), shaded(colour_of(k), probability), -1)
                    shown[k] = shown.get(k, 0.0) + probability * (end - start)
                low = high
        cv2.line(image, (across(now_s), top), (across(now_s), bottom), WHITE, 2)
        cv2.line(image, (across(last.time_s), top), (across(last.time_s), bottom), MARK, 1)
        self._draw_legend(image, shown, left, right)
        ahead = f", next {end_s - now_s:.1f} s" if last.gap_s else ""
        foot = f"last {PAST_S:g} s{ahead}    white: now ({now_s:.1f} s)    yellow: decided"
        self._text(image, foot, 4, left - 0.02 * self.width, right, MUTED, SMALL)

    def _draw_legend(self, image: Image, shown: Mapping[int, float], left: int, right: int) -> None:
        """Names next to their colours, of the classes of the largest area in the strip, in one line; and the number of those left out.

        shown: the area of each class. Names are in the order of the classes, so that few of them move over time.
        """
        largest, scale = sorted(shown, key=lambda k: -shown[k]), SMALL * self._scale
        entry, gap, base = round(0.48 * self._row), round(0.5 * self._row), round(3.8 * self._row)
        room = right - left - size_of(f"+ {len(largest)} more", scale)[0]
        ends = np.cumsum([entry + size_of(self._classes[k], scale)[0] + gap for k in largest])
        count = int((ends <= room).sum())
        x, side = left, round(0.34 * self._row)
        for k in sorted(largest[:count]):
            cv2.rectangle(image, (x, base - side), (x + side, base), colour_of(k), -1)
            write(image, self._classes[k], x + round(1.4 * side), base, WHITE, scale)
            x += entry + size_of(self._classes[k], scale)[0] + gap
        if count < len(largest):
            write(image, f"+ {len(largest) - count} more", x, base, MUTED, scale)

    def _named(self, k: int, decision: Decision) -> str:
        return f"{self._classes[k]} {decision.probabilities[k]:.2f}"

    def _text(self, image: Image, text: str, row: int, left: float, right: float, colour: Colour, size: float = 1.0) -> None:
        """A line of text in a row of the panel, scaled down where it is too wide. size: of its letters, of the usual one."""
        x = round(left + 0.02 * self.width)
        write(image, text, x, round((row + 0.95) * self._row), colour, fitted(text, size * self._scale, right - x))


def colour_of(k: int) -> Colour:
    """The colour of a class: neighbouring classes get hues far apart, and those of nearly one hue are plain, pale or deep mostly."""
    return hue_of(k, *TONES[k // 8 % 3])


def shaded(colour: Colour, probability: float) -> Colour:
    """A colour over the ground of the strip: all of it for probability 1, `UNSURE` of it for 0."""
    share = UNSURE + (1 - UNSURE) * probability
    red, green, blue = (round(share * light + (1 - share) * dark) for light, dark in zip(colour, STRIP_GROUND, strict=True))
    return red, green, blue
