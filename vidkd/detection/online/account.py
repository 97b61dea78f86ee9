"""What learning along a stream achieved, read from the lines that it left and, on key frames, against the frozen student."""

import csv
import dataclasses
import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.detection.metrics import disagreement
from vidkd.detection.online.student import Student
from vidkd.runtime.formats import from_row
from vidkd.video import open_video

KEY_FRAMES, LOSSES = "key_frames.jsonl", "losses.csv"
LOSS_COLUMNS = ("frame", "time_s", "loss_before", "loss_after", "replay_before", "replay_after", "interpolated", "outcome")
NO_ANSWER, FAILED = "no_answer", "failed"
UNKNOWN = "unknown"
"""Next to the boxes of a key frame, the classes of the student that the oracle does not know."""
_OF_ANSWER = ("disagreement", "outcome", "failed", "loss_before", "loss_after", "replay_before", "replay_after", "interpolated")


@dataclass(frozen=True, kw_only=True)
class KeyFrameRow:
    """A frame on which the oracle was called.

    frame: index in the video. disagreement: 1 - F1 of the student before it learned, None without an answer. outcome: of the update; failed
    where the oracle or the update threw or came too late, no_answer where the stream ended before it came. Losses, and what of learning
    stayed, as in `UpdateRecord`.
    boxes: of "student" and "oracle", as in the frame's line, where both are known; with UNKNOWN where there are such classes.
    """

    frame: int
    time_s: float | None
    disagreement: float | None = None
    outcome: str = NO_ANSWER
    loss_before: float | None = None
    loss_after: float | None = None
    replay_before: float | None = None
    replay_after: float | None = None
    interpolated: float | None = None
    failed: str | None = None
    boxes: Mapping[str, Any] | None = None

    def as_row(self) -> dict[str, Any]:
        """Plain values, all but the boxes."""
        return {name: value for name, value in vars(self).items() if name != "boxes"}


@dataclass(frozen=True, kw_only=True)
class Account:
    """A whole stream: its frames, its key frames in order, and seconds of work of each part of its steps.

    oracle_ms: median time of one call, None where the stream did not wait for the oracle.
    """

    frames: int
    keys: tuple[KeyFrameRow, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    oracle_ms: float | None = None

    @property
    def share(self) -> float:
        """Calls a frame, in [0, 1]."""
        return len(self.keys) / self.frames if self.frames else 0.0

    @property
    def outcomes(self) -> dict[str, int]:
        """How many key frames came to each outcome, the most frequent first."""
        return dict(Counter(key.outcome for key in self.keys).most_common())

    @property
    def quarters(self) -> tuple[float, float] | None:
        """Mean disagreement of the first and of the last quarter of the answered key frames, rounded up; None without any."""
        known = [key.disagreement for key in self.keys if key.disagreement is not None]
        if not known:
            return None
        count = math.ceil(len(known) / 4)
        return sum(known[:count]) / count, sum(known[-count:]) / count

    @property
    def ms_a_frame(self) -> dict[str, float]:
        """Milliseconds of each part, over all frames."""
        return {part: 1000 * spent / max(self.frames, 1) for part, spent in self.seconds.items()}

    @property
    def cost(self) -> dict[str, float] | None:
        """Milliseconds per frame of learning (student, policy, calls, updates) and of the oracle on every frame, and their ratio."""
        if not self.oracle_ms:
            return None
        learning = sum(self.ms_a_frame.values())
        return {"learning_ms_per_frame": learning, "oracle_ms_per_frame": self.oracle_ms, "ratio": learning / self.oracle_ms}

    def as_row(self) -> dict[str, Any]:
        """Plain values of the whole: calls, outcomes of their updates, mean disagreement, and milliseconds of each part a frame."""
        first, last = self.quarters or (None, None)
        return {
            "calls": len(self.keys),
            "share": self.share,
            "outcomes": self.outcomes,
            "disagreement": {"first_quarter": first, "last_quarter": last},
            "ms_a_frame": {part: round(spent, 3) for part, spent in self.ms_a_frame.items()},
            "cost": None if self.cost is None else {name: round(value, 3) for name, value in self.cost.items()},
        }


class _Line(msgspec.Struct):
    """What is read of a line. learning: the row of a `FrameRecord`."""

    frame: int
    time_s: float | None
    learning: dict[str, Any]
    key: dict[str, Any] | None = None


def read_account(lines: Path) -> Account:
    """The account of a stream whose `detections.jsonl` this is. Raises DataError, with the line, for one that `tkd` did not write."""
    keys: dict[int, KeyFrameRow] = {}
    seconds: Counter[str] = Counter()
    calls_s: list[float] = []
    waiting, position = -1, -1  # in parallel to the stream, an answer or a failure is recorded at a later frame, and no call between
    with lines.open("rb") as file:
        for position, line in enumerate(file):
            try:
                row = msgspec.json.decode(line, type=_Line)
                learning = row.learning
                seconds.update(learning["seconds"])
                calls_s += [learning["seconds"]["oracle"]] if "oracle" in learning["seconds"] else []
                failed_at = waiting if waiting >= 0 else position
                if learning["called"]:
                    keys[position] = KeyFrameRow(frame=row.frame, time_s=row.time_s, boxes=row.key)
                    waiting = position
                if learning["answered"] is not None or learning["failed"] is not None:
                    at = failed_at if learning["answered"] is None else learning["answered"]
                    answer = {"outcome": FAILED, **{name: learning[name] for name in _OF_ANSWER if name in learning}}
                    keys[at] = dataclasses.replace(keys[at], **answer)
                    waiting = -1 if waiting == at else waiting
            except (msgspec.MsgspecError, KeyError, TypeError) as error:
                reason = f"{error} is missing, a key or the call that it answers" if isinstance(error, KeyError) else error
                hint = "the same command with --overwrite makes the run again"
                raise DataError(f"not a line of tkd: {lines}:{position + 1}", reason=reason, hint=hint) from None
    oracle_ms = 1000 * statistics.median(calls_s) if calls_s else None
    return Account(frames=position + 1, keys=tuple(keys.values()), seconds=dict(seconds), oracle_ms=oracle_ms)


def write_key_frames(folder: Path, keys: Sequence[KeyFrameRow]) -> None:
    """Write a line of JSON for each key frame, and the table of the losses of those that were answered, LOSS_COLUMNS."""
    with atomic_write(folder / KEY_FRAMES) as file:
        file.writelines(json.dumps(key.as_row(), ensure_ascii=False, allow_nan=False) + "\n" for key in keys)
    with atomic_write(folder / LOSSES) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(LOSS_COLUMNS)
        answered = (key for key in keys if key.loss_before is not None or key.loss_after is not None)
        table.writerows([getattr(key, name) for name in LOSS_COLUMNS] for key in answered)


MOST_JUDGED = 100
"""Key frames that are looked at again: a film has thousands, and each has to be decoded."""
AT_ONCE = 8
"""Frames that are held at once."""


@dataclass(frozen=True, kw_only=True)
class FrozenComparison:
    """One key frame: the disagreement with the oracle of two students, in [0, 1].

    learned: of the student before it learned from the frame. frozen: of the one that has learned nothing. updated: whether an update was
    kept before the frame; the two are equal until then.
    """

    frame: int
    learned: float
    frozen: float
    updated: bool


def compare_with_frozen(video: str, account: Account, student: Student, *, sequence_fps: float | None = None) -> list[FrozenComparison]:
    """At most MOST_JUDGED key frames, spread evenly over those with boxes of both sides, which asynchronous learning does not record.

    video: read once more at these frames. student: the frozen one, with the class names of the account. Raises VideoError where the video
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
                own = student.detect(picture, frame_index=key.frame, time_s=key.time_s).detections
                own = own.select(~np.isin(own.labels, unknown))
                updated = first_kept is not None and key.frame > first_kept
                frozen = disagreement(own, theirs)
                found.append(FrozenComparison(frame=key.frame, learned=key.disagreement, frozen=frozen, updated=updated))
    return found


def evenly(keys: Sequence[KeyFrameRow], most: int) -> list[KeyFrameRow]:
    """At most so many of these, the first and the last among them, at even distances in their order."""
    places = np.unique(np.linspace(0, len(keys) - 1, min(most, len(keys))).round().astype(int))
    return [keys[place] for place in places]


def as_row(judged: Sequence[FrozenComparison]) -> dict[str, Any]:
    """Means over the key frames that came after the first update that was kept, for `summary.json`; None without any."""
    means = {name: [getattr(one, name) for one in judged if one.updated] for name in ("learned", "frozen")}
    return {"key_frames": len(means["frozen"]), **{name: float(np.mean(values)) if values else None for name, values in means.items()}}
