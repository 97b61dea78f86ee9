"""Learning in parallel to the stream: oracle and trainer run in a thread on a copy of the student, and the stream never waits for them."""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.base.timing import Stopwatch
from vidkd.detection.metrics import SCORE
from vidkd.detection.online.key_frames import Replay
from vidkd.detection.online.learner import Learner, LearnerStep, UpdateResult, synchronise
from vidkd.detection.online.oracle import Oracle, ask
from vidkd.detection.online.student import Student, StudentOutput
from vidkd.detection.online.update import Update
from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Policy

log = logging.getLogger(__name__)


class AsynchronousLearner(Learner):
    """A student that runs along a stream while a copy of it learns; a context manager.

    One key frame at a time goes to the oracle; frames that come meanwhile cannot be called. New weights are swapped in whole, between
    frames. timeout_s: an answer later than this counts as a failure and is dropped when it comes; the oracle is asked again only then, so
    an oracle that hangs for good is never asked again. Errors that end the run are raised by the next step, or on leaving the context. On
    a GPU the thread has a CUDA stream of its own. Which frame sees which weights depends on time: nothing here repeats bit by bit.
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
        score: float = SCORE,
        timeout_s: float = 10.0,
    ) -> None:
        learning = student.copy()
        super().__init__(_fixed(student), oracle, policy, budget, learning=learning, update=update, replay=replay, score=score)
        self.timeout_s = timeout_s
        self._newest = (0, self.student)
        self._thread = threading.Thread()
        # pending while the oracle is asked, running while the trainer learns, cancelled once given up: never both of the last two
        self._job: Future[tuple[UpdateResult | None, str | None]] | None = None
        self._asked, self._asked_s = 0, 0.0
        self._cuda: Any = None
        if (device := student.detector.device).type == "cuda":
            self._cuda = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._cuda.wait_stream(torch.cuda.default_stream(device))  # on which the networks were put there

    def step(self, frame: NDArray[np.uint8], *, time_s: float | None = None) -> LearnerStep:
        """The next frame of the stream, RGB uint8 (H, W, 3); returns as soon as the student has seen the frame and the policy decided."""
        clock = Stopwatch()
        result, failed = self._taken_report()
        self.version, self.student = self._newest
        output, observation, called = self._see(frame, time_s, clock, able=self._job is None and not self._thread.is_alive())
        if called:
            self._job, self._asked, self._asked_s = Future(), self.position, time.monotonic()
            # copies: the thread sees them when the stream's owner may have written the next frame over both
            given = (self._job, frame.copy(), dataclasses.replace(output, image=output.image.copy()))
            # a daemon: an oracle that hangs for good must not keep the process from ending
            self._thread = threading.Thread(target=self._work, args=given, name="online distillation", daemon=True)
            self._thread.start()
        record = self._record(output, clock, called=called, version=self.version, result=result, failed=failed)
        return LearnerStep(output=output, observation=observation, record=record)

    def state(self) -> dict[str, Any]:
        """Empty: what a thread is about to learn cannot be kept. The student becomes the newest one."""
        self.version, self.student = self._newest
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: ARG002 - as the synchronous one
        """Raises ConfigError: such a stream cannot be resumed."""
        raise ConfigError(
            "asynchronous learning cannot be resumed: what the student had learned is lost",
            hint="--overwrite starts again; without --asynchronous an interrupted stream resumes exactly",
        )

    def close(self) -> bool:
        """Let the present job end; whether it did within timeout_s. May be called again."""
        if self._thread.is_alive():
            self._thread.join(self.timeout_s)
        if self._thread.is_alive() and self._job is not None:
            self._job.cancel()
            log.warning("the oracle has not come back; its thread is left behind")
        return not self._thread.is_alive()

    def __enter__(self) -> "AsynchronousLearner":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.close() and kind is None:
            self._taken_report()  # the last one may be an error

    def _taken_report(self) -> tuple[UpdateResult | None, str | None]:
        """What came of the key frame on its way, or why nothing; both None while that is unknown. Raises what ends the run."""
        job = self._job
        if job is not None and job.done():
            self._job = None
            result, failed = job.result()
        elif job is not None and time.monotonic() - self._asked_s > self.timeout_s and job.cancel():
            self._job = None
            result, failed = None, f"no answer within {self.timeout_s:g} s"
        else:
            return None, None
        self._note(self._asked, result, failed)
        return result, failed

    def _work(self, job: "Future[tuple[UpdateResult | None, str | None]]", frame: NDArray[np.uint8], output: StudentOutput) -> None:
        """The thread: ask, and learn unless that was given up meanwhile."""
        with torch.cuda.stream(self._cuda):
            try:
                answer, failed = ask(self.oracle, frame)
                if not job.set_running_or_notify_cancel():
                    return
                result = None if answer is None else self.trainer.learn(output, answer)
                if result is not None and result.update.changed:
                    newest = _fixed(self.trainer.student)
                    # the copy was queued on this thread's stream; a reader on another must not see weights that are still to be written
                    synchronise(newest.detector.device)
                    self._newest = (self._newest[0] + 1, newest)
                job.set_result((result, failed))
            except Exception as error:  # raised in the stream's thread
                with contextlib.suppress(InvalidStateError):  # of one that was given up
                    job.set_exception(error)


def _fixed(student: Student) -> Student:
    """A copy that will not change; its runtime has taken the weights, so that no reader waits for that."""
    copied = student.copy()
    copied.detector.follow_weights()
    return copied
