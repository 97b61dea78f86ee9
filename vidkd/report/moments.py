"""When the class of a shown clip was to be named: the seconds that the student had observed, and those that its teacher saw."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.data.manifest import Clip
from vidkd.data.observation import ObserveConfig, end_of_clip, seconds_seen
from vidkd.report.parts import Strip

TIME_ROW = "time"
"""Name of the row of a strip that is a `time_line`."""
LANE_PX, LANE_GAP_PX, MARK_PX = 7, 2, 3
OBSERVED, FUTURE, ELSE, DECISION = (0x3D, 0x7F, 0xB5, 255), (0xD9, 0x8A, 0x2B, 255), (0x7F, 0x8A, 0x96, 70), (0xC7, 0x5A, 0x48, 255)


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
