"""The learner as what the offline stream asks, frame after frame."""

import io
import textwrap
from collections.abc import Sequence

import torch

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.detection.online.synchronous import SynchronousLearner
from vidkd.detection.online.views import Step as LearnerStep
from vidkd.detection.stream.stepper import Step
from vidkd.video import Frame


class LearningStepper:
    """A `vidkd.detection.stream.stepper.Stepper` that learns in step with the stream, one frame at a time.

    A frame's line carries "learning", the row of its `FrameRecord`, and "boxes_of": "student", or "oracle" where emit_oracle puts
    the oracle's boxes of a key frame in place of the student's. Frames are counted from the learner's first, whatever their index in the
    video; detections keep that index.
    """

    def __init__(self, learner: SynchronousLearner, *, emit_oracle: bool = False) -> None:
        self.learner, self.emit_oracle = learner, emit_oracle

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """See Stepper."""
        return [self._emitted(self.learner.step(frame.image, time_s=frame.time_s), frame) for frame in frames]

    def state(self) -> bytes:
        """See Stepper."""
        file = io.BytesIO()
        torch.save(self.learner.state(), file)
        return file.getvalue()

    def restore(self, state: bytes) -> None:
        """See Stepper. Raises CheckpointError for bytes that are no state, or that of another student, ConfigError for another budget."""
        try:
            self.learner.restore(torch.load(io.BytesIO(state), map_location="cpu", weights_only=True))
        except ConfigError:
            raise
        except Exception as error:  # bytes that are no state fail in torch in any way
            raise CheckpointError(
                "the stream was left by another learner",
                reason=textwrap.shorten(f"{type(error).__name__}: {error}", 200),
                to_mend="start the stream anew",
            ) from error

    def _emitted(self, step: LearnerStep, frame: Frame) -> Step:
        by_oracle = self.emit_oracle and step.answer is not None
        found = step.answer.detections if by_oracle and step.answer else step.detections
        extra = {"learning": step.record.as_row(), "boxes_of": "oracle" if by_oracle else "student"}
        return Step(detections=found.at(frame.index, frame.time_s), extra=extra)
