"""Strips of a clip: its frames, its flow, the attention of teacher and student, and when its class was to be named."""

import base64
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.data.manifest import Clip
from vidkd.data.observation import ObserveConfig, end_of_clip, seconds_seen
from vidkd.report.annotate import heat
from vidkd.report.parts import Strip

TIME_ROW = "time"
"""Name of the row of a strip that is a `time_line`."""
LANE_PX, LANE_GAP_PX, MARK_PX = 7, 2, 3
OBSERVED, FUTURE, ELSE, DECISION = (0x3D, 0x7F, 0xB5, 255), (0xD9, 0x8A, 0x2B, 255), (0x7F, 0x8A, 0x96, 70), (0xC7, 0x5A, 0x48, 255)
GAP_PX = 3
FRAMES, HEIGHT_PX = 8, 80
"""Frames that a strip shows, spread evenly, and their height."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The moment of decision of one clip; all times in seconds of its file.

    observed_s, future_s: (from, to) of what the student and what its teacher see. fraction: observed share (early recognition).
    """

    observed_s: tuple[float, float]
    future_s: tuple[float, float]
    fraction: float | None = None

    @property
    def decision_s(self) -> float:
        """Where what is observed ends."""
        return self.observed_s[1]

    def words(self) -> str:
        """`decides at 0.80 s, the action starts at 1.80 s`; in early recognition the share that was observed, and where the clip ends."""
        if self.fraction is None:
            return f"decides at {self.decision_s:.2f} s, the action starts at {self.future_s[0]:.2f} s"
        return f"decides at {self.decision_s:.2f} s ({100 * self.fraction:g} % observed), the clip ends at {self.future_s[1]:.2f} s"


def moment_of(clip: Clip, observe: ObserveConfig, timestamps_s: NDArray[np.float64], *, fraction: float | None = None) -> Moment:
    """The moment of a clip under `early` or `anticipation`, for a file with these frames. Raises DataError as `seconds_seen` does.

    Where the teacher sees the same part, what comes after it is shown instead: the whole clip.
    """
    if observe.teacher_sees == "same":
        observe = dataclasses.replace(observe, teacher_sees="whole")
    end_s = end_of_clip(timestamps_s, clip, clip.path)
    observed, future = seconds_seen(clip, observe, end_s=end_s, fraction=fraction)
    first, second = ((seen.start_s, end_s if seen.end_s is None else min(seen.end_s, end_s)) for seen in (observed, future))
    return Moment(observed_s=first, future_s=second, fraction=fraction)


def caption_of_time_rows(strips: Iterable[Strip]) -> str:
    """How the rows of time of these strips are read; empty where they have none."""
    if not any(name == TIME_ROW for strip in strips for name, _ in strip.rows):
        return ""
    colours = "blue is what the student observed, orange what its teacher sees or what came; red is the moment of decision"
    return f"In the row '{TIME_ROW}' {colours}."


def time_line(moment: Moment, width_px: int) -> NDArray[np.uint8]:
    """(h, width, 4) RGBA: above what is observed, below what comes or is seen by the teacher, from the first second of both to the last.

    The moment of decision is marked across both.
    """
    lanes = {OBSERVED: moment.observed_s, FUTURE: moment.future_s}
    start_s, end_s = min(start for start, _ in lanes.values()), max(end for _, end in lanes.values())
    picture = np.zeros((len(lanes) * (LANE_PX + LANE_GAP_PX) + LANE_GAP_PX, width_px, 4), np.uint8)

    def column(time_s: float) -> int:
        return math.floor(width_px * (time_s - start_s) / max(end_s - start_s, 1e-9))

    for lane, (colour, (first_s, last_s)) in enumerate(lanes.items()):
        rows = picture[LANE_GAP_PX + lane * (LANE_PX + LANE_GAP_PX) :][:LANE_PX]
        rows[:] = ELSE
        rows[:, column(first_s) : max(column(last_s), column(first_s) + 1)] = colour
    mark = min(column(moment.decision_s), width_px - MARK_PX)
    picture[:, mark : mark + MARK_PX] = DECISION
    return picture


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one side sees of a clip.

    rgb: (T, H, W, 3) uint8. flow: (T, h, w, 2), dx and dy in pixels. attention: whose -> (T', h, w) probabilities (not their logarithms),
    and the displacement of their grid in cells, see `vidkd.models.backbone.Stage`; T' may be smaller than T, each map then represents T/T'
    frames.
    """

    rgb: NDArray[np.uint8]
    flow: NDArray[np.floating] | None = None
    attention: Mapping[str, tuple[NDArray[np.floating], float]] = field(default_factory=dict)

    def rows(self, name: str, flow_name: str) -> list[tuple[str, str]]:
        """FRAMES of the frames, the flow at these, and each attention over them."""
        count = len(self.rgb)
        shown = np.unique(np.linspace(0, count - 1, min(FRAMES, count)).round().astype(int))
        pictures = {name: [resized(self.rgb[index]) for index in shown]}
        if self.flow is not None:
            pictures[flow_name] = [resized(picture) for picture in flow_pictures(self.flow)[shown]]
        for whose, (maps, shift) in self.attention.items():
            of_frames = zip(pictures[name], (maps[index * len(maps) // count] for index in shown), strict=True)
            pictures[whose] = [heat(picture, cells, shift_cells=shift, most=float(np.max(maps))) for picture, cells in of_frames]
        return [(row, png_data_uri(side_by_side(each))) for row, each in pictures.items()]


def clip_strip(part: Part, *, label: str | None = None, predicted: str | None = None, name: str = "") -> Strip:
    """The strip of one clip of which student and teacher see the same window."""
    return _strip(part.rows("frames", "flow"), label, predicted, name)


def observed_strip(
    observed: Part,
    future: Part,
    moment: Moment,
    *,
    taught: bool,
    held_future: bool = False,
    label: str | None = None,
    predicted: str | None = None,
    name: str = "",
) -> Strip:
    """The strip of one clip that was to be named from its observed part: that part, when, and what the teacher saw (`taught`) or what came.

    held_future: the second part is so short that frames of it repeat, which is said.
    """
    width_px = min(FRAMES, len(observed.rgb)) * (resized(observed.rgb[0]).shape[1] + GAP_PX) - GAP_PX
    second = "teacher sees" if taught else "what came"
    line = (TIME_ROW, png_data_uri(time_line(moment, width_px)))
    rows = [*observed.rows("observed", "observed flow"), line, *future.rows(second, "its flow")]
    words = moment.words() + (f"; frames of what {'the teacher sees' if taught else 'came'} repeat" if held_future else "")
    return _strip(rows, label, predicted, f"{name}: {words}" if name else words)


def _strip(rows: Sequence[tuple[str, str]], label: str | None, predicted: str | None, caption: str) -> Strip:
    named = {word: value for word, value in (("true", label), ("predicted", predicted)) if value is not None}
    title = " \N{RIGHTWARDS ARROW} ".join(f"{word} {value}" for word, value in named.items())
    right = label == predicted if len(named) == 2 else None
    return Strip(title=title or caption, rows=tuple(rows), caption=caption if title else "", right=right)


def flow_pictures(flow: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Flow (T, H, W, 2) as colours (T, H, W, 3): the hue is the direction, red to the right, yellow-green downwards; black is still.

    Full colour is the length in pixels that all but one in a hundred vectors stay below, at least one: noise of a still clip stays dark.
    """
    dx, dy = (flow[..., axis].astype(np.float32) for axis in (0, 1))
    length, angle = np.hypot(dx, dy), np.mod(np.degrees(np.arctan2(dy, dx)), 360)
    strength = np.clip(length / max(1.0, np.percentile(length, 99)), 0, 1)
    colours = [cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) for hsv in np.stack([angle, np.ones_like(length), strength], -1).astype(np.float32)]
    return np.asarray(np.rint(np.stack(colours) * 255), np.uint8)


def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures (H, W, 3) in one (H, n*W + (n-1)*GAP_PX, 4), with see-through gaps. They are all of one size."""
    padded = [np.pad(np.dstack([each, np.full(each.shape[:2], 255, np.uint8)]), ((0, 0), (GAP_PX, 0), (0, 0))) for each in pictures]
    return np.hstack(padded)[:, GAP_PX:]


def png_data_uri(picture: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) RGB or (H, W, 4) RGBA as a data URI."""
    order = cv2.COLOR_RGBA2BGRA if picture.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    _, content = cv2.imencode(".png", cv2.cvtColor(picture, order), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return f"data:image/png;base64,{base64.b64encode(content.tobytes()).decode()}"


def resized(picture: NDArray[np.uint8], height_px: int = HEIGHT_PX) -> NDArray[np.uint8]:
    """A picture (H, W, 3) at this height, its proportions kept."""
    height, width = picture.shape[:2]
    size = (max(1, round(width * height_px / height)), height_px)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if height > height_px else cv2.INTER_CUBIC), np.uint8)
