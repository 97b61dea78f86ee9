"""Learning in parallel to the stream: oracle and trainer run in a thread on a copy of the student, and the stream never waits for them."""

import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.base.timing import Stopwatch
from vidkd.detection.metrics.matching import SCORE
from vidkd.detection.online.learner import FrameRecord, OnlineTrainer, Step, UpdateResult, synchronise
from vidkd.detection.online.oracle import Oracle, may_fail
from vidkd.detection.online.replay import Replay
from vidkd.detection.online.student import Student, StudentOutput
from vidkd.detection.online.update import Update
from vidkd.detection.policies.budget import CallBudget, KeyFrameChooser
from vidkd.detection.policies.policy import ObservationBuilder, Policy

log = logging.getLogger(__name__)


class Version(NamedTuple):
    """A student whose weights no longer change, and how many were published before it."""

    number: int
    student: Student


class Published:
    """The newest version of a student.

    One thread publishes, any number read. A version is prepared aside, whole, and then becomes the newest by one assignment of a
    reference, so a reader has the one before or the new one. Readers keep what they took as long as they like.
    """

    def __init__(self, student: Student) -> None:
        self._newest = Version(0, _fixed(student))

    def newest(self) -> Version:
        """The version to use for the next frame."""
        return self._newest

    def publish(self, student: Student) -> Version:
        """Make a copy of the student's present weights the newest version."""
        copied = _fixed(student)
        # the copy was queued on the trainer's stream; a reader on another stream must not see weights that are still to be written
        synchronise(student.detector.device)
        self._newest = Version(self._newest.number + 1, copied)
        return self._newest


def _fixed(student: Student) -> Student:
    """A copy that will not change; its runtime has taken the weights, so that no reader waits for that."""
    copied = student.copy()
    copied.detector.follow_weights()
    return copied


class _Job:
    """One key frame on its way. The lock makes it either given up or being learned from, never both."""

    def __init__(self, frame: NDArray[np.uint8], output: StudentOutput) -> None:
        # copies: the thread sees them when the stream's owner may have written the next frame over both
        self.frame, self.output = frame.copy(), dataclasses.replace(output, image=output.image.copy())
        self.frame_index = output.detections.frame_index
        self.asked_s = time.monotonic()
        self._lock = threading.Lock()
        self._settled = False

    def settle(self) -> bool:
        """Whether this caller is the first to decide what becomes of the job."""
        with self._lock:
            first, self._settled = not self._settled, True
            return first


class _Report(NamedTuple):
    """What came of the job of a frame: a result, why the oracle gave no answer, or an error that ends the run."""

    frame_index: int
    result: UpdateResult | None = None
    failed: str | None = None
    error: Exception | None = None


class AsynchronousLearner:
    """A student that runs along a stream while a copy of it learns; a context manager.

    student: its present weights are where both start; the object itself is not changed. One job at a time goes to the oracle; frames that
    come meanwhile cannot be called. New weights are swapped in whole, between frames (`Published`).
    timeout_s: an answer later than this is counted in `timeouts`, logged, and dropped when it comes; the oracle is asked again only then,
    so an oracle that hangs for good is never asked again. A failed call (`may_fail`) is counted in `failures` and logged, and the student
    continues; any other error, and every error of an update, is raised by the next step, or on leaving the context. On a GPU the thread
    has a CUDA stream of its own.
    Which frame sees which weights depends on time: nothing here repeats bit by bit.
    Raises ConfigError for a timeout_s that is not above 0, or if oracle and loss do not fit.
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
        timeout_s: float = 10.0,
    ) -> None:
        if not timeout_s > 0:
            raise ConfigError(f"timeout_s must be above 0, not {timeout_s}")
        self.oracle, self.timeout_s = oracle, timeout_s
        self.trainer = OnlineTrainer(student.copy(), oracle, update or Update(), replay or Replay(), score=score)
        self.published = Published(student)
        self.chooser = KeyFrameChooser(policy, budget, exhaust=exhaust)
        self.position = self.failures = self.timeouts = 0
        self._observations = ObservationBuilder()
        self._closed = False
        self._waiting: _Job | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reports: queue.SimpleQueue[_Report] = queue.SimpleQueue()
        self._busy = threading.Event()
        # a daemon: an oracle that hangs for good must not keep the process from ending
        self._thread = threading.Thread(target=self._work, name="online distillation", daemon=True)
        self._thread.start()

    def step(self, frame: NDArray[np.uint8], *, time_s: float | None = None) -> Step:
        """The next frame of the stream, RGB uint8 (H, W, 3); returns as soon as the student has seen it and the policy decided.

        Raises ValueError for another array, RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError("the learner is closed")
        clock = Stopwatch()
        report = self._take_report()
        version = self.published.newest()
        with clock.part("student"):
            output = version.student.detect(frame, frame_index=self.position, time_s=time_s)
        with clock.part("selector"):
            observation = self._observations.observe(frame, output)
            called = self.chooser.choose(observation, able=self._waiting is None and not self._busy.is_set())
        if called:
            self._observations.called(observation)
            self._busy.set()
            self._waiting = _Job(frame, output)
            self._jobs.put(self._waiting)
        self.position += 1
        result, failed = (report.result, report.failed) if report else (None, None)
        record = FrameRecord.of(output, result, called=called, version=version.number, failed=failed, seconds=clock.seconds())
        return Step(output=output, observation=observation, record=record)

    def close(self) -> bool:
        """Let the present job end and join the thread; whether it did end within timeout_s. May be called again."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join(self.timeout_s)
        ended = not self._thread.is_alive()
        if not ended:
            if self._waiting is not None:
                self._waiting.settle()
            log.warning("the oracle has not come back; its thread is left behind")
        return ended

    def __enter__(self) -> "AsynchronousLearner":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.close() and kind is None:
            self._take_report()  # the last one may be an error

    def _take_report(self) -> _Report | None:
        """What came of the job on its way, if that is known by now; given up if it is late."""
        try:
            report = self._reports.get_nowait()
        except queue.Empty:
            return self._give_up_late()
        self._waiting = None
        if report.error is not None:
            raise report.error
        if report.result is None:
            self.failures += 1
            log.warning("oracle failed at frame %d (%d failures): %s", report.frame_index, self.failures, report.failed)
            return report
        self._observations.answered(report.result.update.loss_before)
        self.chooser.update(report.result.feedback)
        return report

    def _give_up_late(self) -> _Report | None:
        job = self._waiting
        if job is None or time.monotonic() - job.asked_s <= self.timeout_s or not job.settle():
            return None
        self._waiting = None
        self.timeouts += 1
        log.warning("no answer of the oracle on frame %d within %g s (%d time-outs)", job.frame_index, self.timeout_s, self.timeouts)
        return _Report(job.frame_index, failed=f"no answer within {self.timeout_s:g} s")

    def _work(self) -> None:
        """The thread: jobs until None comes."""
        with _own_stream(self.trainer.student.detector.device):
            while (job := self._jobs.get()) is not None:
                report = self._report_of(job)
                if report is not None:
                    self._reports.put(report)
                self._busy.clear()

    def _report_of(self, job: _Job) -> _Report | None:
        """Ask and learn; None for a job that was given up meanwhile."""
        try:
            answer = self.oracle(job.frame)
        except Exception as error:  # raised in the stream's thread if it is not one that the stream survives
            failed = f"{type(error).__name__}: {error}"
            report = _Report(job.frame_index, failed=failed) if may_fail(error) else _Report(job.frame_index, error=error)
            return report if job.settle() else None
        if not job.settle():
            return None
        try:
            result = self.trainer.learn(job.output, answer)
            if result.update.changed:
                self.published.publish(self.trainer.student)
        except Exception as error:
            return _Report(job.frame_index, error=error)
        return _Report(job.frame_index, result)


@contextlib.contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    own = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    own.wait_stream(torch.cuda.default_stream(device))  # on which the networks were put there
    with torch.cuda.stream(own):
        yield
