"""What learning along a stream changed: on key frames, the student as it had learned by then beside the same student as it began."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidkd.detection.metrics import disagreement
from vidkd.detection.online.account import UNKNOWN, Account, KeyFrameRow
from vidkd.detection.online.student import Student
from vidkd.runtime.formats import from_row
from vidkd.video import open_video

MOST_JUDGED = 100
"""Key frames that are looked at again: a film has thousands, and each has to be decoded."""
AT_ONCE = 8
"""Frames that are held at once."""


@dataclass(frozen=True, kw_only=True)
class BesideUnlearned:
    """One key frame: the disagreement with the oracle of two students, in [0, 1].

    learned: of the student before it learned from the frame. began: of the one that has learned nothing. taught: whether an update was kept
    before the frame; the two are equal until then.
    """

    frame: int
    learned: float
    began: float
    taught: bool


def beside_unlearned(video: str, account: Account, student: Student, *, sequence_fps: float | None = None) -> list[BesideUnlearned]:
    """At most MOST_JUDGED key frames, spread evenly over those with boxes of both sides, which a stream that learns beside has not.

    video: read once more at these frames. student: as it began; its class names are those of the account. Raises VideoError where the video
    cannot be read.
    """
    known = evenly([key for key in account.keys if key.boxes is not None and key.disagreement is not None], MOST_JUDGED)
    if not known:
        return []
    first_kept = next((key.frame for key in account.keys if key.outcome == "kept"), None)
    found = []
    with open_video(video, backend="pyav", sequence_fps=sequence_fps) as frames:
        for start in range(0, len(known), AT_ONCE):
            keys = known[start : start + AT_ONCE]
            for key, picture in zip(keys, frames.frames_at_indices([key.frame for key in keys]), strict=True):
                assert key.boxes is not None
                assert key.disagreement is not None
                theirs = from_row({"frame": key.frame, "time_s": key.time_s, **key.boxes["oracle"]}, student.class_names)
                unknown = [student.class_names.index(name) for name in key.boxes.get(UNKNOWN, ())]
                own = student.look(picture, frame_index=key.frame, time_s=key.time_s).detections
                own = own.select(~np.isin(own.labels, unknown))
                taught = first_kept is not None and key.frame > first_kept
                found.append(BesideUnlearned(frame=key.frame, learned=key.disagreement, began=disagreement(own, theirs), taught=taught))
    return found


def evenly(keys: Sequence[KeyFrameRow], most: int) -> list[KeyFrameRow]:
    """At most so many of these, the first and the last among them, at even distances in their order."""
    places = np.unique(np.linspace(0, len(keys) - 1, min(most, len(keys))).round().astype(int))
    return [keys[place] for place in places]


def as_row(judged: Sequence[BesideUnlearned]) -> dict[str, Any]:
    """Means over the key frames that came after the first update that was kept, for `summary.json`; None without any."""
    taught = [one for one in judged if one.taught]
    return {
        "key_frames": len(taught),
        "learned": float(np.mean([one.learned for one in taught])) if taught else None,
        "as_it_began": float(np.mean([one.began for one in taught])) if taught else None,
    }
