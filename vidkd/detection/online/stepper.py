"""The learner as what the offline stream asks, frame after frame."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vidkd.detection.online.account import UNKNOWN
from vidkd.detection.online.asynchronous import AsynchronousLearner
from vidkd.detection.online.learner import SynchronousLearner
from vidkd.detection.saved import write_darknet
from vidkd.detection.stream.stepper import Step, Stepper
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import to_row
from vidkd.video import Frame


class LearningStepper(Stepper):
    """A `vidkd.detection.stream.stepper.Stepper` that learns along the stream, one frame at a time.

    A frame's line carries "learning", the row of its `FrameRecord`, and "boxes_of": "student", or "oracle" where emit_oracle puts the
    oracle's boxes of a key frame in place of the student's. The line of a key frame that was answered in step carries "key" too: the boxes
    of both, before any filter, and as "unknown" those classes of the student that the oracle does not have, if there are any. Frames are
    counted from the learner's first, whatever their index in the video; detections keep that index.
    saved: a folder that gets the student as darknet files after every part, so that a kill cannot lose it between stream and end; with the
    note that it is that of the run in the folder `owner`.
    """

    def __init__(
        self,
        learner: SynchronousLearner | AsynchronousLearner,
        *,
        emit_oracle: bool = False,
        saved: Path | None = None,
        owner: Path | None = None,
    ) -> None:
        self.learner, self.emit_oracle, self.saved, self.owner = learner, emit_oracle, saved, owner

    def end(self, frames: Sequence[Frame], begun: Any) -> list[Step]:  # noqa: ARG002 - nothing
        """See Stepper."""
        return [self._step(frame) for frame in frames]

    def state(self) -> bytes:
        """See Stepper. Raises CheckpointError where the student cannot be saved."""
        file = io.BytesIO()
        torch.save(self.learner.state(), file)
        student = self.learner.student
        if self.saved is not None:
            write_darknet(self.saved, student.net, student.class_names, resize=student.detector.resize, run=self.owner)
        return file.getvalue()

    def restore(self, state: bytes) -> None:
        """See Stepper. Raises ConfigError for another budget, or a learner that cannot be resumed."""
        self.learner.restore(torch.load(io.BytesIO(state), map_location="cpu", weights_only=True))

    def _step(self, frame: Frame) -> Step:
        step, names = self.learner.step(frame.image, time_s=frame.time_s), self.learner.student.class_names
        found, answer = step.detections.at(frame.index, frame.time_s), step.answer
        extra: dict[str, Any] = {"learning": step.record.as_row(), "boxes_of": "student"}
        if answer is None:
            return Step(detections=found, extra=extra)
        theirs = answer.detections.at(frame.index, frame.time_s)
        unknown = [] if answer.known is None else [name for label, name in enumerate(names) if label not in answer.known]
        extra["key"] = {"student": _boxes(found, names), "oracle": _boxes(theirs, names), **({UNKNOWN: unknown} if unknown else {})}
        if self.emit_oracle:
            return Step(detections=theirs, extra={**extra, "boxes_of": "oracle"})
        return Step(detections=found, extra=extra)


def _boxes(found: Detections, names: Sequence[str]) -> dict[str, Any]:
    """The boxes of a line."""
    row = to_row(found, names)
    return {part: row[part] for part in ("boxes", "scores", "classes")}
