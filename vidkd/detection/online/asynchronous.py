"""Learning beside the stream: oracle and trainer run in a thread on a copy of the student, and the stream never waits for them."""

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
from vidkd.detection.metrics.agreement import SCORE
from vidkd.detection.online.lesson import Lesson, Pupil, record_of
from vidkd.detection.online.oracle import Oracle, may_fail
from vidkd.detection.online.replay import Replay
from vidkd.detection.online.student import Student
from vidkd.detection.online.swap import Published
from vidkd.detection.online.update import Update
from vidkd.detection.online.views import Look, Step, Watcher
from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.chooser import KeyFrameChooser
from vidkd.detection.policies.policy import Policy

log = logging.getLogger(__name__)


class _Job:
    """One key frame on its way. The lock makes it either given up or being learned from, never both."""

    def __init__(self, frame: NDArray[np.uint8], look: Look) -> None:
        # copies: the thread sees them when the stream's owner may have written the next frame over both
        self.frame, self.look = frame.copy(), dataclasses.replace(look, image=look.image.copy())
        self.frame_index = look.detections.frame_index
        self.asked_s = time.monotonic()
        self._lock = threading.Lock()
        self._settled = False

    def settle(self) -> bool:
        """Whether this caller is the first to decide what becomes of the job."""
        with self._lock:
            first, self._settled = not self._settled, True
            return first


class _Report(NamedTuple):
    """What came of the job of a frame: a lesson, why the oracle gave no answer, or an error that ends the run."""

    frame_index: int
    lesson: Lesson | None = None
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
        self.pupil = Pupil(student.copy(), oracle, update or Update(), replay or Replay(), score=score)
        self.published = Published(student)
        self.chooser = KeyFrameChooser(policy, budget, exhaust=exhaust)
        self.position = self.failures = self.timeouts = 0
        self._watcher = Watcher()
        self._closed = False
        self._waiting: _Job | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reports: queue.SimpleQueue[_Report] = queue.SimpleQueue()
        self._busy = threading.Event()
        # a daemon: an oracle that hangs for good must not keep the process from ending
        self._thread = threading.Thread(target=self._work, name="online distillation", daemon=True)
        self._thread.start()

    def step(self, frame: NDArray[np.uint8], *, time_s: float | None = None) -> Step:
        """The next frame of the stream, RGB uint8 (H, W, 3); returns as soon as the student has looked and the policy decided.

        Raises ValueError for another array, RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError("the learner is closed")
        clock = Stopwatch()
        report = self._take_report()
        version = self.published.newest()
        with clock.part("student"):
            look = version.student.look(frame, frame_index=self.position, time_s=time_s)
        with clock.part("selector"):
            observation = self._watcher.observe(frame, look)
            called = self.chooser.choose(observation, able=self._waiting is None and not self._busy.is_set())
        if called:
            self._watcher.called(observation)
            self._send(frame, look)
        self.position += 1
        lesson, failed = (report.lesson, report.failed) if report else (None, None)
        record = record_of(look, called=called, version=version.number, lesson=lesson, failed=failed, seconds=clock.seconds())
        return Step(look=look, observation=observation, record=record)

    def close(self, *, wait_s: float | None = None) -> bool:
        """Let the job at hand end and join the thread; whether it did end within wait_s (None: within timeout_s). May be called again."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join(self.timeout_s if wait_s is None else wait_s)
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

    def _send(self, frame: NDArray[np.uint8], look: Look) -> None:
        self._busy.set()
        self._waiting = _Job(frame, look)
        self._jobs.put(self._waiting)

    def _take_report(self) -> _Report | None:
        """What came of the job on its way, if that is known by now; given up if it is late."""
        try:
            report = self._reports.get_nowait()
        except queue.Empty:
            return self._give_up_late()
        self._waiting = None
        if report.error is not None:
            raise report.error
        if report.lesson is None:
            self.failures += 1
            log.warning("oracle failed at frame %d (%d failures): %s", report.frame_index, self.failures, report.failed)
            return report
        self._watcher.told(report.lesson.update.loss_before)
        self.chooser.told(report.lesson.feedback)
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
        with _own_stream(self.pupil.student.detector.device):
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
            return _failed(job, error) if job.settle() else None
        if not job.settle():
            return None
        try:
            lesson = self.pupil.learn(job.look, answer)
            if lesson.update.changed:
                self.published.publish(self.pupil.student)
        except Exception as error:
            return _Report(job.frame_index, error=error)
        return _Report(job.frame_index, lesson)


def _failed(job: _Job, error: Exception) -> _Report:
    return _Report(job.frame_index, failed=f"{type(error).__name__}: {error}") if may_fail(error) else _Report(job.frame_index, error=error)


@contextlib.contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    own = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    own.wait_stream(torch.cuda.default_stream(device))  # on which the networks were put there
    with torch.cuda.stream(own):
        yield
