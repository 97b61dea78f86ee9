"""Learning in step with the stream: each key frame is learned from before the next frame comes. Deterministic, for studies."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.timing import Stopwatch
from vidkd.detection.metrics.agreement import SCORE
from vidkd.detection.online.lesson import Lesson, Pupil, record_of, synchronise
from vidkd.detection.online.oracle import Answer, Oracle, may_fail
from vidkd.detection.online.replay import Replay
from vidkd.detection.online.student import Student
from vidkd.detection.online.update import Update
from vidkd.detection.online.views import Look, Step, Watcher
from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.chooser import KeyFrameChooser
from vidkd.detection.policies.policy import Policy

log = logging.getLogger(__name__)


class SynchronousLearner:
    """A student that runs along a stream and learns from the key frames that its policy chooses.

    student: its weights change in place. oracle: asked on key frames only. A failed call (`may_fail`) is counted in `failures` and logged,
    and the student continues; any other error, and every error of an update, is raised. An oracle that hangs holds the stream, for which
    there are `TimedOracle` and the asynchronous learner. With equal weights, seeds, frames and answers, on one machine's processor with
    one number of threads, a run repeats bit by bit; on a GPU kernels may add up in another order each time.
    Raises ConfigError if oracle and loss do not fit.
    """

    def __init__(
        self,
        student: Student,
        oracle: Oracle,
        policy: Policy,
        budget: CallBudget,
        *,
        update: Update | None = None,
        replay: Replay | None = None,
        exhaust: bool = True,
        score: float = SCORE,
    ) -> None:
        self.student, self.oracle = student, oracle
        self.pupil = Pupil(student, oracle, update or Update(), replay or Replay(), score=score)
        self.chooser = KeyFrameChooser(policy, budget, exhaust=exhaust)
        self._watcher = Watcher()
        self.position = self.version = self.failures = 0

    def step(self, frame: NDArray[np.uint8], *, time_s: float | None = None, answer: Answer | None = None) -> Step:
        """The next frame of the stream, RGB uint8 (H, W, 3).

        The boxes of the result were made before anything was learned from the frame. answer: the oracle's on this frame where the caller
        knows it already; used if the policy calls, in place of asking. Raises ValueError for another array.
        """
        clock, version = Stopwatch(), self.version
        with clock.part("student"):
            look = self.student.look(frame, frame_index=self.position, time_s=time_s)
        with clock.part("selector"):
            observation = self._watcher.observe(frame, look)
            called = self.chooser.choose(observation)
        lesson, failed = None, None
        if called:
            self._watcher.called(observation)
            if answer is None:
                with clock.part("oracle"):
                    answer, failed = self._ask(frame)
            if answer is not None:
                with clock.part("update"):
                    lesson = self._learn(look, answer)
        self.position += 1
        record = record_of(look, called=called, version=version, lesson=lesson, failed=failed, seconds=clock.seconds())
        return Step(look=look, observation=observation, record=record, answer=answer if called else None)

    def state(self) -> dict[str, Any]:
        """All that the rest of the stream depends on, as plain values and tensors, readable with weights_only=True."""
        counts = {name: getattr(self, name) for name in ("position", "version", "failures")}
        parts = {"pupil": self.pupil.state(), "chooser": self.chooser.state(), "watcher": self._watcher.state()}
        return {"counts": counts, **parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, in a learner made with the same arguments. Raises ConfigError if its budget was another."""
        self.chooser.restore(state["chooser"])
        self.pupil.restore(state["pupil"])
        self._watcher.restore(state["watcher"])
        for name, value in state["counts"].items():
            setattr(self, name, value)

    def _ask(self, frame: NDArray[np.uint8]) -> tuple[Answer | None, str | None]:
        """The oracle's answer, or why there is none."""
        try:
            return self.oracle(frame), None
        except Exception as error:
            if not may_fail(error):
                raise
            self.failures += 1
            failed = f"{type(error).__name__}: {error}"
            log.warning("oracle failed at frame %d (%d failures): %s", self.position, self.failures, failed)
            return None, failed

    def _learn(self, look: Look, answer: Answer) -> Lesson:
        lesson = self.pupil.learn(look, answer)
        self.student.detector.follow_weights()  # a part of the update, not of the next frame
        synchronise(self.student.detector.device)
        self._watcher.told(lesson.update.loss_before)
        self.chooser.told(lesson.feedback)
        self.version += lesson.update.changed
        return lesson
