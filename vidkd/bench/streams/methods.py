"""The methods along a stream that a study compares: an online learner under a policy, and the baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from vidkd.base.timing import Stopwatch
from vidkd.bench.streams.carried import Carrier
from vidkd.detection.online import FrameRecord, KeyFrame, Student, SynchronousLearner, Trainer, Update
from vidkd.detection.online.learner import key_frame_of
from vidkd.detection.policies import Observation, Policy
from vidkd.runtime.detections import Detections

FIRST_SHARE = 0.1
PASSES = 3
"""How often a student adapted offline sees each of its key frames; online each is learned from once, and replayed."""


@dataclass(kw_only=True)
class Passed:
    """What happened along the stream.

    called, kept: frames of calls and of updates that were kept. losses: (frame, before, after) of each.
    failed: why the oracle had no answer to the first of `failures` calls.
    """

    called: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    losses: list[tuple[int, float, float]] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failures: int = 0
    failed: str | None = None

    def spend(self, parts: Mapping[str, float]) -> None:
        """Take in the seconds of the parts of one frame."""
        for name, seconds in parts.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def note(self, record: FrameRecord) -> None:
        """Take in what one step did."""
        self.spend(record.seconds)
        if record.called:
            self.called.append(record.frame_index)
        if record.failed is not None:
            self.failures, self.failed = self.failures + 1, self.failed or record.failed
        if record.update is not None:
            update, outcome = record.update, record.update.outcome
            self.losses.append((record.frame_index, update.loss_before, update.loss_after))
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
            if outcome == "kept":
                self.kept.append(record.frame_index)


class StreamMethod(Protocol):
    """A method along a stream."""

    passed: Passed

    def step(self, frame: NDArray[np.uint8]) -> Detections:
        """The boxes that are scored on the next frame, RGB uint8 (H, W, 3), made before the oracle's answer on it is known."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Where calls end.

    calls: of the whole stream. until: the first frame without calls, where a budget that holds before it would begin anew.
    """

    calls: int
    until: int | None = None

    def reached(self, position: int, passed: Passed) -> bool:
        """Whether no call may be made at this frame any more."""
        return len(passed.called) >= self.calls or (self.until is not None and position >= self.until)


class OnlineLearning:
    """A learner along the stream. Beyond the limit the student alone goes on, as it then is."""

    def __init__(self, learner: SynchronousLearner, limit: Limit) -> None:
        self.learner, self.limit = learner, limit
        self.passed = Passed()
        self._position = 0

    def step(self, frame: NDArray[np.uint8]) -> Detections:
        """As `StreamMethod`."""
        position, self._position = self._position, self._position + 1
        if self.limit.reached(position, self.passed):
            return _alone(self.learner.student, frame, position, self.passed)
        step = self.learner.step(frame)
        self.passed.note(step.record)
        return step.detections


class Frozen:
    """The frozen student."""

    def __init__(self, student: Student) -> None:
        self.student, self.passed = student, Passed()
        self._position = 0

    def step(self, frame: NDArray[np.uint8]) -> Detections:
        """As `StreamMethod`."""
        position, self._position = self._position, self._position + 1
        return self.student.detect(frame, frame_index=position).detections


class Asked:
    """The oracle itself, asked on every frame: its boxes are scored. answers: what it says of each frame of the stream."""

    def __init__(self, answers: Sequence[Detections]) -> None:
        self.answers, self.passed = answers, Passed()

    def step(self, frame: NDArray[np.uint8]) -> Detections:  # noqa: ARG002 - it was asked before
        """As `StreamMethod`, but for whose boxes they are."""
        position = len(self.passed.called)
        self.passed.called.append(position)
        return self.answers[position]


class Carrying:
    """The oracle's last boxes, carried on. learner: chooses the key frames and must not train (`Update(steps=0)`)."""

    def __init__(self, learner: SynchronousLearner, carrier: Carrier, limit: Limit) -> None:
        self.learner, self.carrier, self.limit = learner, carrier, limit
        self.passed = Passed()
        self._position = 0

    def step(self, frame: NDArray[np.uint8]) -> Detections:
        """As `StreamMethod`."""
        position, self._position = self._position, self._position + 1
        if self.limit.reached(position, self.passed):
            return self.carrier.carry(frame, _alone(self.learner.student, frame, position, self.passed)).at(position, None)
        step = self.learner.step(frame)
        boxes = self.carrier.carry(frame, step.detections).at(position, None)
        self.passed.note(step.record)
        if step.answer is not None:
            self.carrier.take(step.answer.detections)
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


class AdaptedOffline:
    """A student that collects key frames in the first tenth, then learns from all of them, and goes on as it then is.

    learner: with a `FirstTenth` policy and without steps. update: how the student learns at the end of the tenth: from each key frame
    PASSES times, in an order drawn anew, with `update.replay` of the others beside it.
    """

    def __init__(self, learner: SynchronousLearner, policy: FirstTenth, update: Update, seed: int) -> None:
        self.learner, self.policy, self.update = learner, policy, update
        self.passed = Passed()
        self._keys: list[KeyFrame] = []
        self._rng = np.random.default_rng(seed)

    def step(self, frame: NDArray[np.uint8]) -> Detections:
        """As `StreamMethod`."""
        if self.learner.position == self.policy.until:
            clock = Stopwatch()
            with clock.part("update"):
                self._adapt()
            self.passed.spend(clock.seconds())
        step = self.learner.step(frame)
        self.passed.note(step.record)
        if step.answer is not None:
            self._keys.append(key_frame_of(step.output, step.answer, score=self.learner.trainer.score))
        return step.detections

    def _adapt(self) -> None:
        trainer = Trainer(self.learner.student, self.update)
        self.passed.losses, self.passed.outcomes = [], {}
        for _ in range(PASSES):
            for place in self._rng.permutation(len(self._keys)):
                others = [key for number, key in enumerate(self._keys) if number != place]
                beside = self._rng.permutation(len(others))[: self.update.replay]
                done = trainer.learn(self._keys[place], [others[number] for number in beside], interpolate=False)
                self.passed.losses.append((self.policy.until, done.loss_before, done.loss_after))
                self.passed.outcomes[done.outcome] = self.passed.outcomes.get(done.outcome, 0) + 1
                if done.outcome == "kept":
                    self.passed.kept = [self.policy.until]


def _alone(student: Student, frame: NDArray[np.uint8], position: int, passed: Passed) -> Detections:
    """What the student finds on a frame that nothing is asked or learned about; its time counts as on any other."""
    clock = Stopwatch()
    with clock.part("student"):
        found = student.detect(frame, frame_index=position).detections
    passed.spend(clock.seconds())
    return found


def calls_of(share: float, frames: int) -> int:
    """Whole calls in a share of so many frames; at least one."""
    return max(1, int(share * frames + 1e-9))
