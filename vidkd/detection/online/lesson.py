"""From an answer of the oracle to a student that has learned from it: the part that both modes share."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vidkd.base.errors import ConfigError
from vidkd.detection.metrics.agreement import SCORE, f1_against
from vidkd.detection.metrics.counts import FrameCounts
from vidkd.detection.online.distillation import NEEDS_HEADS
from vidkd.detection.online.oracle import Answer, Oracle
from vidkd.detection.online.replay import KeyFrame, Replay, ReplayBuffer
from vidkd.detection.online.student import Student
from vidkd.detection.online.update import Trainer, Update, UpdateRecord
from vidkd.detection.online.views import FrameRecord, Look
from vidkd.detection.policies.policy import Feedback


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a key frame taught. disagreement: 1 - F1 of the student's boxes before it learned, in [0, 1]."""

    frame_index: int
    disagreement: float
    update: UpdateRecord

    @property
    def feedback(self) -> Feedback:
        """What a policy is told of it."""
        return Feedback(frame_index=self.frame_index, disagreement=self.disagreement, loss=self.update.loss_before)


class Pupil:
    """A student that learns, with its trainer and its past key frames.

    oracle: whose answers it will learn from. score: from which score on boxes count in the disagreement.
    Raises ConfigError for a loss on raw heads where the oracle gives boxes alone.
    """

    def __init__(self, student: Student, oracle: Oracle, update: Update, replay: Replay, *, score: float = SCORE) -> None:
        if update.loss in NEEDS_HEADS and not oracle.gives_heads:
            raise ConfigError(
                f"the loss {update.loss} compares raw heads and the oracle gives boxes alone", hint="use the loss oracle_assigned"
            )
        self.student, self.score = student, score
        self.trainer = Trainer(student, update)
        self.buffer = ReplayBuffer(replay)

    def learn(self, look: Look, answer: Answer) -> Lesson:
        """Measure what the student saw against the answer, learn from the frame and keep it; all of it or, if something throws, nothing."""
        key = key_frame_of(look, answer, score=self.score)
        past = self.buffer.sample(self.trainer.update.replay, now=key.frame_index)
        with self.trainer.all_or_nothing():
            interpolated = self.trainer.interpolate(key)
            update = self.trainer.learn(key, past)
        if interpolated is not None:
            update = dataclasses.replace(update, loss_before=interpolated.loss, interpolated=interpolated.share)
        self.buffer.add(key)
        return Lesson(frame_index=key.frame_index, disagreement=disagreement_of(look, answer, score=self.score), update=update)

    def state(self) -> dict[str, Any]:
        """Weights, optimiser and buffer, as plain values and tensors that share no memory with the student."""
        weights = {name: value.detach().cpu().clone() for name, value in self.student.net.state_dict().items()}
        return {"weights": weights, "trainer": self.trainer.state(), "buffer": self.buffer.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.student.net.load_state_dict(state["weights"])
        self.trainer.restore(state["trainer"])
        self.buffer.restore(state["buffer"])


def record_of(
    look: Look, *, called: bool, version: int, lesson: Lesson | None, failed: str | None, seconds: Mapping[str, float]
) -> FrameRecord:
    """The record of a frame at which this lesson, if any, came in."""
    return FrameRecord(
        frame_index=look.detections.frame_index,
        time_s=look.detections.time_s,
        called=called,
        version=version,
        answered=None if lesson is None else lesson.frame_index,
        disagreement=None if lesson is None else lesson.disagreement,
        update=None if lesson is None else lesson.update,
        failed=failed,
        seconds=seconds,
    )


def key_frame_of(look: Look, answer: Answer, *, score: float = SCORE) -> KeyFrame:
    """The frame that the student looked at, with the oracle's boxes in pixels of the student's input.

    Of classes that the oracle does not know, the student's own boxes from `score` on stand for it: what nobody teaches would be unlearned.
    """
    own = answer.unjudged(look.detections)
    said = (answer.detections, own.select(own.scores >= score))
    boxes, scores, labels = (np.concatenate([getattr(part, name) for part in said]) for name in ("boxes", "scores", "labels"))
    return KeyFrame(
        frame_index=look.detections.frame_index,
        # a frame that has the input's size already is its own letterbox, and its owner may write the next frame over it
        image=look.image.copy(),
        boxes=look.letterbox.to_input(boxes).astype(np.float32),
        scores=scores,
        labels=labels,
        heads=answer.heads,
    )


def disagreement_of(look: Look, answer: Answer, *, score: float = SCORE) -> float:
    """1 - F1, in [0, 1], of the student's boxes against the oracle's."""
    return 1 - agreement_of(look, answer, score=score).f1


def agreement_of(look: Look, answer: Answer, *, score: float = SCORE) -> FrameCounts:
    """Which of the student's boxes the oracle has too; of one frame. Those of classes that the oracle does not know are left out."""
    found = answer.judged(look.detections)
    return f1_against([found], [answer.detections.at(found.frame_index, found.time_s)], score=score, oracle_score=score)


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what was asked of it, so that times are those of the work and weights are whole."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
