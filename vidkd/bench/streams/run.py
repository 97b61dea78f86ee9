"""One cell of a study of streams: a method runs along a stream once, and every frame is scored."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench.streams.answers import KnownOracle, OracleBoxes, oracle_boxes
from vidkd.bench.streams.carried import FlowCarrier, TrackCarrier
from vidkd.bench.streams.figures import judged
from vidkd.bench.streams.footage import Stretch, frames_of, ranges_of, stretches_of, truth_of
from vidkd.bench.streams.methods import (
    AdaptedOffline,
    Asked,
    Carrying,
    FirstTenth,
    Frozen,
    Limit,
    OnlineLearning,
    Passed,
    StreamMethod,
    calls_of,
)
from vidkd.bench.streams.selectors import open_selector
from vidkd.bench.streams.spec import MethodSpec
from vidkd.bench.streams.study import HINDSIGHT, Learning, StreamStudy, learning_of, selector_name
from vidkd.bench.streams.wrong_oracle import BoxErrors, WrongOracle
from vidkd.bench.study import CellKey, Chosen, Places
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.metrics import FrameCounts, f1_against
from vidkd.detection.online import HeadOracle, Oracle, Student, SynchronousLearner, Update
from vidkd.detection.online.oracle import of_labels
from vidkd.detection.policies import CallBudget, Hindsight, Policy, RandomCalls, open_policy
from vidkd.engine.devices import pick_device
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.detections import Detections
from vidkd.video import open_video


@dataclass(frozen=True, kw_only=True)
class Course:
    """A stream made ready for a cell: its frames, what the oracle says of each in the student's labels, and what is annotated.

    known: the student's labels that the oracle knows, None for all.
    """

    stretches: Sequence[Stretch]
    boxes: OracleBoxes
    answers: tuple[Detections, ...]
    known: frozenset[int] | None
    truth: BoxManifest | None
    ranges: Mapping[str, tuple[int, int]]

    def __len__(self) -> int:
        return len(self.answers)


def run_stream_cell(study: StreamStudy, key: CellKey, places: Places, chosen: Chosen) -> dict[str, Any]:
    """Run one cell; returns what it found. Raises as what it opens does."""
    start = time.perf_counter()
    student = _student(study, places)
    course = _course(study, key.place, student.class_names, places)
    maker = _Maker(study, key, places, chosen, course)
    found, passed = run_along(maker.stream_method(student), (frame.image for frame in frames_of(course.stretches)))
    counts = counts_of(found, course, study)
    return {
        "parameters": sum(parameter.numel() for parameter in maker.grown(student).net.parameters()),
        "frames": len(course),
        "ranges": {name: list(bounds) for name, bounds in course.ranges.items()},
        "counts": _lists(counts),
        **_what_passed(passed),
        "seconds": {name: round(value, 3) for name, value in {**passed.seconds, "whole": time.perf_counter() - start}.items()},
        "oracle_frame_s": round(course.boxes.frame_s, 5),
        **({} if course.truth is None else {"annotated": judged(course.truth, found, study.spec.score).columns()}),
    }


def run_along(method: StreamMethod, frames: Iterable[NDArray[np.uint8]]) -> tuple[list[Detections], Passed]:
    """Scored boxes of every frame, each filed under its place in the stream, and what happened on the way.

    Raises DataError as soon as the oracle fails: a call that is spent without an answer makes another method of this one.
    """
    start, found = time.perf_counter(), []
    for place, frame in enumerate(frames):
        found.append(method.step(frame).at(place, None))
        if method.passed.failed is not None:
            mend = "mend what the reason says (the oracle's file, memory, device), and run the same command again"
            raise DataError(f"the oracle or an update failed at frame {place} of the stream", reason=method.passed.failed, hint=mend)
    method.passed.seconds["stream"] = time.perf_counter() - start
    return found, method.passed


def counts_of(found: Sequence[Detections], course: Course, study: StreamStudy) -> FrameCounts:
    """Boxes of every frame against the oracle's; those of classes that the oracle does not know are neither right nor wrong."""
    spec, judged_of = study.spec, [of_labels(one, course.known) for one in found]
    return f1_against(judged_of, course.answers, iou=spec.iou, score=spec.score)


def _course(study: StreamStudy, stream: str, class_names: tuple[str, ...], places: Places) -> Course:
    stretches = stretches_of(study, stream, places)
    boxes = oracle_boxes(stretches, study.oracle_files(places), places.cache)
    return Course(
        stretches=stretches,
        boxes=boxes,
        answers=boxes.for_student(class_names),
        known=boxes.known_to(class_names),
        truth=truth_of(study, stream, stretches, class_names, places),
        ranges=ranges_of(study, stream, stretches),
    )


def _student(study: StreamStudy, places: Places) -> Student:
    spec = study.spec.student
    cfg, weights, names = (study.find(name, places) for name in (spec.cfg, spec.weights, spec.names))
    device = pick_device(places.device)
    return Student(
        DarknetDetector.open(cfg, weights, names, score_threshold=spec.score, nms_iou=spec.nms_iou, device=device, resize=spec.resize)
    )


class _Maker:
    """Makes the stream method of a cell."""

    def __init__(self, study: StreamStudy, key: CellKey, places: Places, chosen: Chosen, course: Course) -> None:
        self.study, self.key, self.places, self.course = study, key, places, course
        self.method: MethodSpec = study.spec.methods[key.method]
        until = study.spec.streams[key.place].calls_until
        self._callable = len(course) if until is None else min(until, len(course))
        self.limit = Limit(calls=calls_of(key.calls, self._callable), until=until)
        self.learning: Learning = learning_of(study.spec, key, chosen)

    def stream_method(self, student: Student) -> StreamMethod:
        """The method's own, with this student at its start."""
        if self.method.kind == "frozen":
            return Frozen(student)
        if self.method.kind == "oracle":
            return Asked(self.course.answers)
        if self.method.kind == "first_tenth":
            return self._adapted(student)
        learner = self._learner(self.grown(student), self._policy(student), self._budget(), self._update())
        if self.method.kind == "learn":
            return OnlineLearning(learner, self.limit)
        if self.method.kind == "flow":
            return Carrying(learner, FlowCarrier(), self.limit)
        with open_video(self.course.stretches[0].path) as reader:
            return Carrying(learner, TrackCarrier(fps=reader.info.average_fps), self.limit)

    def grown(self, student: Student) -> Student:
        """The student with what the method trains."""
        learns = self.method.kind in ("learn", "first_tenth")
        return student.for_update(self.learning.update, seed=self.key.seed) if learns else student

    def _update(self) -> Update:
        return self.learning.update if self.method.kind == "learn" else Update(steps=0, replay=0)

    def _budget(self) -> CallBudget:
        # one block as long as the frames that may be called: in part of a block policies would spend unlike numbers of calls
        return CallBudget(self.limit.calls, self._callable)

    def _adapted(self, student: Student) -> AdaptedOffline:
        policy = FirstTenth(self.limit.calls, len(self.course), self.limit.until)
        learner = self._learner(self.grown(student), policy, CallBudget(self.limit.calls, len(self.course)), Update(steps=0, replay=0))
        return AdaptedOffline(learner, policy, self.learning.update, self.key.seed)

    def _learner(self, student: Student, policy: Policy, budget: CallBudget, update: Update) -> SynchronousLearner:
        known = KnownOracle(self.course.answers, self.course.known)
        score = self.study.spec.score
        oracle = self._heads(student) if self.study.spec.oracle.heads else self._with_errors(known)
        learner = SynchronousLearner(student, oracle, policy, budget, update=update, replay=self.learning.replay, score=score)
        known.follow(learner)
        return learner

    def _with_errors(self, oracle: KnownOracle) -> Oracle:
        share = self.method.wrong
        return WrongOracle(oracle, BoxErrors(share=share, seed=self.key.seed)) if share else oracle

    def _heads(self, student: Student) -> Oracle:
        detector = self.study.oracle_files(self.places).open()
        if not isinstance(detector, DarknetDetector):
            raise ConfigError("oracle.heads asks for a darknet oracle", study=self.study.path, hint="leave out heads")
        return HeadOracle(detector, student.detector)

    def _policy(self, student: Student) -> Policy:
        if self.method.policy == HINDSIGHT:
            return Hindsight(self._true_errors())
        selector = selector_name(self.study, self.key)
        if selector is None:
            return open_policy(self.method.policy, seed=self.key.seed)
        return open_selector(self.study.find(selector, self.places), self.study, self.key, self.places, student, self.learning)

    def _true_errors(self) -> NDArray[np.float64]:
        """Boxes of every frame on which student and oracle disagree, of a student that learns from as many calls at random.

        Their number, not 1 - F1: that of a frame with one missed box is 1, and there is little to learn from it.
        """
        student = self.grown(_student(self.study, self.places))
        learner = self._learner(student, RandomCalls(self.key.seed), self._budget(), self._update())
        found, _ = run_along(OnlineLearning(learner, self.limit), (frame.image for frame in frames_of(self.course.stretches)))
        counts = counts_of(found, self.course, self.study)
        return np.asarray(counts.false_positives + counts.false_negatives, np.float64)


def _lists(counts: FrameCounts) -> dict[str, list[int]]:
    return {
        "right": counts.true_positives.tolist(),
        "wrong": counts.false_positives.tolist(),
        "missed": counts.false_negatives.tolist(),
    }


def _what_passed(passed: Passed) -> dict[str, Any]:
    finite = [(place, before, after) for place, before, after in passed.losses if np.isfinite([before, after]).all()]
    return {
        "called": passed.called,
        "kept": passed.kept,
        "outcomes": passed.outcomes,
        "failures": passed.failures,
        "losses": [[place, round(before, 4), round(after, 4)] for place, before, after in finite],
    }
