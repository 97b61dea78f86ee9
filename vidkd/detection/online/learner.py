"""A student that learns along a stream, each key frame before the next frame comes; and the learner as the stream's stepper."""

import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.base.timing import Stopwatch
from vidkd.detection.metrics import SCORE, FrameCounts, f1_against
from vidkd.detection.online.account import UNKNOWN
from vidkd.detection.online.key_frames import NEEDS_HEADS, KeyFrame, Replay, ReplayBuffer
from vidkd.detection.online.oracle import Answer, Oracle, ask
from vidkd.detection.online.student import Student, StudentOutput
from vidkd.detection.online.update import Trainer, Update, UpdateRecord
from vidkd.detection.policies.budget import CallBudget, KeyFrameChooser
from vidkd.detection.policies.policy import Feedback, Observation, ObservationBuilder, Policy
from vidkd.detection.saved import write_darknet
from vidkd.detection.stream.stepper import Step, Stepper
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import to_row
from vidkd.video import Frame

if TYPE_CHECKING:
    from vidkd.detection.online.asynchronous import AsynchronousLearner

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """What a key frame taught. answered: its index. disagreement: 1 - F1 of the student's boxes before it learned, in [0, 1]."""

    answered: int
    disagreement: float
    update: UpdateRecord


@dataclass(frozen=True, kw_only=True)
class FrameRecord:
    """What happened at one frame.

    called: whether the oracle was called on it. version: how many updates the weights behind its boxes had seen. answered: the key frame
    of an answer that came in at this frame: itself in step with the stream, an earlier one in parallel to it; None for none. disagreement,
    update: of that answer. failed: why a call gave no answer. seconds: of each part of the step, by name; the only field that varies
    between runs.
    """

    frame_index: int
    time_s: float | None
    called: bool
    version: int
    answered: int | None = None
    disagreement: float | None = None
    update: UpdateRecord | None = None
    failed: str | None = None
    seconds: Mapping[str, float]

    def as_row(self) -> dict[str, Any]:
        """Plain values for a line of JSON, those of an update next to the others; None for a number that is not finite."""
        row = {name: value for name, value in vars(self).items() if name not in ("update", "seconds")}
        row |= {} if self.update is None else vars(self.update)
        numbers = {name: value if not isinstance(value, float) or math.isfinite(value) else None for name, value in row.items()}
        return {**numbers, "seconds": dict(self.seconds)}


@dataclass(frozen=True, eq=False, kw_only=True)
class LearnerStep:
    """One frame of a stream: what the student saw before it could learn anything from the frame, and what happened.

    answer: the oracle's on this very frame, None where it was not called, failed, or answers later.
    """

    output: StudentOutput
    observation: Observation
    record: FrameRecord
    answer: Answer | None = None

    @property
    def detections(self) -> Detections:
        """The student's own boxes, those that are scored."""
        return self.output.detections


class OnlineTrainer:
    """A student that learns, with its trainer and its past key frames.

    oracle: whose answers it will learn from. score: from which score on boxes count in the disagreement.
    Raises ConfigError for a loss on raw heads where the oracle gives only boxes.
    """

    def __init__(self, student: Student, oracle: Oracle, update: Update, replay: Replay, *, score: float = SCORE) -> None:
        if update.loss in NEEDS_HEADS and not oracle.gives_heads:
            raise ConfigError(
                f"the loss {update.loss} compares raw heads and the oracle gives only boxes", hint="use the loss oracle_assigned"
            )
        self.student, self.score = student, score
        self.trainer = Trainer(student, update)
        self.buffer = ReplayBuffer(replay)

    def learn(self, output: StudentOutput, answer: Answer) -> UpdateResult:
        """Measure the student's output against the answer, learn from the frame and keep it; if something raises, nothing has changed."""
        key = key_frame_of(output, answer, score=self.score)
        past = self.buffer.sample(self.trainer.update.replay)
        update = self.trainer.learn(key, past)
        self.buffer.add(key)
        disagreement = 1 - agreement_of(output, answer, score=self.score).f1
        return UpdateResult(answered=key.frame_index, disagreement=disagreement, update=update)

    def state(self) -> dict[str, Any]:
        """Weights, optimiser and buffer, as plain values and tensors that share no memory with the student."""
        weights = {name: value.detach().cpu().clone() for name, value in self.student.net.state_dict().items()}
        return {"weights": weights, "trainer": self.trainer.state(), "buffer": self.buffer.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.student.net.load_state_dict(state["weights"])
        self.trainer.restore(state["trainer"])
        self.buffer.restore(state["buffer"])


def key_frame_of(output: StudentOutput, answer: Answer, *, score: float = SCORE) -> KeyFrame:
    """The frame that the student saw, with the oracle's boxes in pixels of the student's input.

    For classes that the oracle does not know, the student's own boxes from `score` on are used as truth: classes without supervision would
    be forgotten.
    """
    own = answer.unjudged(output.detections)
    parts = (answer.detections, own.select(own.scores >= score))
    boxes, scores, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "labels"))
    return KeyFrame(
        frame_index=output.detections.frame_index,
        # a frame that has the input's size already is its own letterbox, and its owner may write the next frame over it
        image=output.image.copy(),
        boxes=output.letterbox.to_input(boxes).astype(np.float32),
        scores=scores,
        labels=labels,
        heads=answer.heads,
    )


def agreement_of(output: StudentOutput, answer: Answer, *, score: float = SCORE) -> FrameCounts:
    """Which of the student's boxes the oracle has too; of one frame. Those of classes that the oracle does not know are left out."""
    found = answer.judged(output.detections)
    return f1_against([found], [answer.detections.at(found.frame_index, found.time_s)], score=score)


class Learner:
    """What synchronous and asynchronous learning share: a student on every frame, and the choice of key frames.

    student: that whose boxes are scored. learning: that which learns. oracle: asked on key frames only. A failed call (`may_fail`) is
    counted in `failures` and logged, and the student continues; any other error, and every error of an update, is raised.
    Raises ConfigError if oracle and loss do not fit.
    """

    def __init__(
        self,
        student: Student,
        oracle: Oracle,
        policy: Policy,
        budget: CallBudget,
        *,
        learning: Student | None = None,
        update: Update | None = None,
        replay: Replay | None = None,
        score: float = SCORE,
    ) -> None:
        self.student, self.oracle = student, oracle
        self.trainer = OnlineTrainer(learning or student, oracle, update or Update(), replay or Replay(), score=score)
        self.chooser = KeyFrameChooser(policy, budget)
        self._observations = ObservationBuilder()
        self.position = self.version = self.failures = 0

    def _see(self, frame: NDArray[np.uint8], time_s: float | None, clock: Stopwatch, *, able: bool = True) -> tuple[Any, Observation, bool]:
        """The student's output on the next frame, what the policy sees of it, and whether the oracle is called, if it is able to answer."""
        with clock.part("student"):
            output = self.student.detect(frame, frame_index=self.position, time_s=time_s)
        with clock.part("selector"):
            observation = self._observations.observe(frame, output)
            called = self.chooser.choose(observation, able=able)
        if called:
            self._observations.called(observation)
        return output, observation, called

    def _record(
        self, output: StudentOutput, clock: Stopwatch, *, called: bool, version: int, result: UpdateResult | None, failed: str | None
    ) -> FrameRecord:
        """The record of a frame, with what came in at it; the next frame is the next one."""
        found, fields = output.detections, {} if result is None else vars(result)
        self.position += 1
        return FrameRecord(
            frame_index=found.frame_index,
            time_s=found.time_s,
            called=called,
            version=version,
            failed=failed,
            seconds=clock.seconds(),
            **fields,
        )

    def _note(self, frame_index: int, result: UpdateResult | None, failed: str | None) -> None:
        """Tell policy and observations of an answer, or count and log a failure."""
        if result is not None:
            self._observations.answered(result.update.loss_before)
            loss = result.update.loss_before
            self.chooser.update(Feedback(frame_index=frame_index, disagreement=result.disagreement, loss=loss))
        elif failed is not None:
            self.failures += 1
            log.warning("oracle failed at frame %d (%d failures): %s", frame_index, self.failures, failed)


class SynchronousLearner(Learner):
    """A student that runs along a stream and learns from the key frames that its policy chooses; its weights change in place.

    An oracle that hangs holds the stream, for which there are `TimedOracle` and the asynchronous learner. With equal weights, seeds, frames
    and answers, on one machine's processor with one number of threads, a run repeats bit by bit; on a GPU kernels may add up in another
    order each time.
    """

    def step(self, frame: NDArray[np.uint8], *, time_s: float | None = None, answer: Answer | None = None) -> LearnerStep:
        """The next frame of the stream, RGB uint8 (H, W, 3): the student's boxes, made before anything can be learned from it.

        answer: the oracle's on this frame, if the caller knows it; used if the policy calls, instead of asking.
        """
        clock, version = Stopwatch(), self.version
        output, observation, called = self._see(frame, time_s, clock)
        result, failed = None, None
        if called:
            if answer is None:
                with clock.part("oracle"):
                    answer, failed = ask(self.oracle, frame)
            if answer is not None:
                with clock.part("update"):
                    result = self.trainer.learn(output, answer)
                    self.student.detector.follow_weights()  # a part of the update, not of the next frame
                    synchronise(self.student.detector.device)
                self.version += result.update.changed
            self._note(self.position, result, failed)
        record = self._record(output, clock, called=called, version=version, result=result, failed=failed)
        return LearnerStep(output=output, observation=observation, record=record, answer=answer if called else None)

    def state(self) -> dict[str, Any]:
        """All that the rest of the stream depends on, as plain values and tensors, readable with weights_only=True."""
        counts = {name: getattr(self, name) for name in ("position", "version", "failures")}
        parts = {"trainer": self.trainer.state(), "chooser": self.chooser.state(), "observations": self._observations.state()}
        return {"counts": counts, **parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave, in a learner made with the same arguments. Raises ConfigError if its budget was another."""
        self.chooser.restore(state["chooser"])
        self.trainer.restore(state["trainer"])
        self._observations.restore(state["observations"])
        for name, value in state["counts"].items():
            setattr(self, name, value)


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished its queue, so that times are those of the work and weights are whole."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


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
        learner: "SynchronousLearner | AsynchronousLearner",
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
