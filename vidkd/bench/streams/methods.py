"""The methods along a stream that a study compares: an online learner under a policy, and the baselines."""

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vidkd.base.timing import Stopwatch
from vidkd.bench.streams.carried import Carrier
from vidkd.detection.online import KeyFrame, Student, SynchronousLearner, Trainer, Update
from vidkd.detection.online.learner import LearnerStep, key_frame_of
from vidkd.detection.policies import Observation, Policy
from vidkd.runtime.detections import Detections

FIRST_SHARE = 0.1
PASSES = 3
"""How often a student adapted offline sees each of its key frames; online each is learned from once, and replayed."""


class StreamMethod(abc.ABC):
    """A method along a stream, and what happened: frames of calls and of kept updates, seconds of the parts, why the oracle failed."""

    def __init__(self) -> None:
        self.called: list[int] = []
        self.kept: list[int] = []
        self.seconds: dict[str, float] = {}
        self.failed: str | None = None
        self.position = -1

    def step(self, frame: NDArray[np.uint8]) -> Detections:
        """The boxes that are scored on the next frame, RGB uint8 (H, W, 3), made before the oracle's answer on it is known."""
        self.position += 1
        return self._boxes(frame)

    @abc.abstractmethod
    def _boxes(self, frame: NDArray[np.uint8]) -> Detections:
        """As `step`."""

    def _spend(self, parts: Mapping[str, float]) -> None:
        self.seconds |= {name: self.seconds.get(name, 0.0) + seconds for name, seconds in parts.items()}

    def _learn(self, learner: SynchronousLearner, frame: NDArray[np.uint8]) -> LearnerStep:
        step = learner.step(frame)
        record = step.record
        self._spend(record.seconds)
        self.called += [record.frame_index] if record.called else []
        self.kept += [record.frame_index] if record.update is not None and record.update.outcome == "kept" else []
        self.failed = self.failed or record.failed
        return step


class Frozen(StreamMethod):
    """The frozen student."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def _boxes(self, frame: NDArray[np.uint8]) -> Detections:
        return self.student.detect(frame, frame_index=self.position).detections


class Asked(StreamMethod):
    """The oracle itself, asked on every frame: its boxes are scored. answers: what it says of each frame of the stream."""

    def __init__(self, answers: Sequence[Detections]) -> None:
        super().__init__()
        self.answers = answers

    def _boxes(self, frame: NDArray[np.uint8]) -> Detections:  # noqa: ARG002 - it was asked before
        self.called.append(self.position)
        return self.answers[self.position]


class OnlineLearning(StreamMethod):
    """A learner along the stream, whose boxes a carrier may replace by the oracle's last ones.

    calls: of the whole stream. until: the first frame without calls, where a budget that holds before it would begin again. Beyond these
    the student continues without the oracle and without learning. carrier: for a learner that must not train (`Update(steps=0)`).
    """

    def __init__(self, learner: SynchronousLearner, calls: int, until: int | None = None, carrier: Carrier | None = None) -> None:
        super().__init__()
        self.learner, self.calls, self.until, self.carrier = learner, calls, until, carrier

    def _boxes(self, frame: NDArray[np.uint8]) -> Detections:
        answer = None
        if len(self.called) >= self.calls or (self.until is not None and self.position >= self.until):
            clock = Stopwatch()
            with clock.part("student"):
                found = self.learner.student.detect(frame, frame_index=self.position).detections
            self._spend(clock.seconds())
        else:
            step = self._learn(self.learner, frame)
            found, answer = step.detections, step.answer
        if self.carrier is None:
            return found
        boxes = self.carrier.carry(frame, found)
        if answer is not None:
            self.carrier.take(answer.detections)
        return boxes


class FirstTenth(Policy):
    """Spends `calls` at even distances within the first tenth of a stream of `frames`, or within as many frames as there are calls.

    last: frame from which on there are no calls, if there is one; where it comes before the end of the tenth, they end there.
    """

    plans: ClassVar[bool] = True

    def __init__(self, calls: int, frames: int, last: int | None = None) -> None:
        tenth = max(calls, round(frames * FIRST_SHARE))
        self.until = tenth if last is None else min(tenth, last)
        calls = min(calls, self.until)
        self._chosen = frozenset(int(place) for place in np.arange(calls) * self.until / calls)

    def wants(self, observation: Observation) -> bool:
        """As `Policy.wants`."""
        return observation.frame_index in self._chosen


class AdaptedOffline(StreamMethod):
    """A student that collects key frames in the first tenth, then learns from all of them, and is frozen then.

    learner: with a `FirstTenth` policy and without steps. update: how the student learns at the end of the tenth: from each key frame
    PASSES times, in random order, with `update.replay` of the others.
    """

    def __init__(self, learner: SynchronousLearner, until: int, update: Update, seed: int) -> None:
        super().__init__()
        self.learner, self.until, self.update = learner, until, update
        self._keys: list[KeyFrame] = []
        self._rng = np.random.default_rng(seed)

    def _boxes(self, frame: NDArray[np.uint8]) -> Detections:
        if self.position == self.until:
            clock = Stopwatch()
            with clock.part("update"):
                self._adapt()
            self._spend(clock.seconds())
        step = self._learn(self.learner, frame)
        if step.answer is not None:
            self._keys.append(key_frame_of(step.output, step.answer, score=self.learner.trainer.score))
        return step.detections

    def _adapt(self) -> None:
        trainer = Trainer(self.learner.student, self.update)
        outcomes = []
        for _ in range(PASSES):
            for place in self._rng.permutation(len(self._keys)):
                others = [key for number, key in enumerate(self._keys) if number != place]
                replayed = self._rng.permutation(len(others))[: self.update.replay]
                outcomes.append(trainer.learn(self._keys[place], [others[number] for number in replayed], interpolate=False).outcome)
        self.kept = [self.until] if "kept" in outcomes else []


def calls_of(share: float, frames: int) -> int:
    """Whole calls in a share of so many frames; at least one."""
    return max(1, int(share * frames + 1e-9))
