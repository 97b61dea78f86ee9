"""The learner as what the offline stream asks, frame after frame."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.detection.online.account import UNKNOWN
from vidkd.detection.online.asynchronous import AsynchronousLearner
from vidkd.detection.online.learner import Step as LearnerStep
from vidkd.detection.online.learner import SynchronousLearner
from vidkd.detection.online.student import Student
from vidkd.detection.saved import write_darknet
from vidkd.detection.stream.stepper import Step, Stepper
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import to_row
from vidkd.video import Frame


class LearningStepper(Stepper):
    """A `vidkd.detection.stream.stepper.Stepper` that learns in step with the stream, one frame at a time.

    A frame's line carries "learning", the row of its `FrameRecord`, and "boxes_of": "student", or "oracle" where emit_oracle puts the
    oracle's boxes of a key frame in place of the student's. The line of a key frame that was answered carries "key" too: the boxes of both,
    before any filter, and as "unknown" those classes of the student that the oracle does not have, if there are any. Frames are counted
    from the learner's first, whatever their index in the video; detections keep that index.
    """

    def __init__(self, learner: SynchronousLearner, *, emit_oracle: bool = False) -> None:
        self.learner, self.emit_oracle = learner, emit_oracle

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """See Stepper."""
        names = self.learner.student.class_names
        return [_emitted(self.learner.step(frame.image, time_s=frame.time_s), frame, names, self.emit_oracle) for frame in frames]

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
                hint="--overwrite starts again",
            ) from error


class BesideStepper(Stepper):
    """A `Stepper` whose student learns in parallel to the stream; whoever made the learner closes it.

    Lines are those of `LearningStepper`, without "key": an answer comes when its frame is long written.
    """

    def __init__(self, learner: AsynchronousLearner) -> None:
        self.learner = learner

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """See Stepper."""
        names = self.learner.published.newest().student.class_names
        return [_emitted(self.learner.step(frame.image, time_s=frame.time_s), frame, names, False) for frame in frames]

    def state(self) -> bytes:
        """Empty: what a thread is about to learn cannot be kept."""
        return b""

    def restore(self, state: bytes) -> None:  # noqa: ARG002 - as the protocol has it
        """Raises ConfigError: such a stream cannot be resumed."""
        raise ConfigError(
            "asynchronous learning cannot be resumed: what the student had learned is lost",
            hint="--overwrite starts again; without --asynchronous an interrupted stream resumes exactly",
        )


class SavedAlong(Stepper):
    """A `Stepper` whose student is written as darknet files after every part, so that a kill cannot lose it between stream and end.

    folder: gets student.cfg, student.weights and student.names, at last those after the last frame, and student.json, which says whose.
    owner: the folder of the run. Raises CheckpointError where they cannot be written.
    """

    def __init__(self, inner: LearningStepper | BesideStepper, folder: Path, *, owner: Path) -> None:
        self._inner, self._folder, self._owner = inner, folder, owner

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """See Stepper."""
        return self._inner.step(frames)

    def state(self) -> bytes:
        """See Stepper."""
        student = student_of(self._inner)
        write_darknet(self._folder, student.net, student.class_names, resize=student.detector.resize, run=self._owner)
        return self._inner.state()

    def restore(self, state: bytes) -> None:
        """See Stepper."""
        self._inner.restore(state)


def student_of(stepper: LearningStepper | BesideStepper) -> Student:
    """The present student."""
    return stepper.learner.student if isinstance(stepper, LearningStepper) else stepper.learner.published.newest().student


def _emitted(step: LearnerStep, frame: Frame, names: Sequence[str], emit_oracle: bool) -> Step:
    found, answer = step.detections.at(frame.index, frame.time_s), step.answer
    extra: dict[str, Any] = {"learning": step.record.as_row(), "boxes_of": "student"}
    if answer is not None:
        theirs = answer.detections.at(frame.index, frame.time_s)
        unknown = [] if answer.known is None else [name for label, name in enumerate(names) if label not in answer.known]
        extra["key"] = {"student": _boxes(found, names), "oracle": _boxes(theirs, names), **({UNKNOWN: unknown} if unknown else {})}
        if emit_oracle:
            return Step(detections=theirs, extra={**extra, "boxes_of": "oracle"})
    return Step(detections=found, extra=extra)


def _boxes(found: Detections, names: Sequence[str]) -> dict[str, Any]:
    """The boxes of a line."""
    row = to_row(found, names)
    return {part: row[part] for part in ("boxes", "scores", "classes")}
