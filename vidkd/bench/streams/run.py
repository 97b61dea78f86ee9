"""One cell of a study of streams: a method runs along a stream once, and every frame is scored."""

import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench.streams.figures import judged
from vidkd.bench.streams.footage import (
    KnownOracle,
    OracleBoxes,
    Stretch,
    WrongOracle,
    frames_of,
    oracle_boxes,
    ranges_of,
    stretches_of,
    truth_of,
)
from vidkd.bench.streams.methods import (
    AdaptedOffline,
    Asked,
    Carrier,
    FirstTenth,
    FlowCarrier,
    Frozen,
    OnlineLearning,
    StreamMethod,
    TrackCarrier,
    calls_of,
)
from vidkd.bench.streams.study import HINDSIGHT, Learning, StreamStudy, learning_of, selector_name
from vidkd.bench.study import CellKey, Chosen, Places
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.metrics import FrameCounts, f1_against
from vidkd.detection.online import HeadOracle, Oracle, Student, SynchronousLearner, Update
from vidkd.detection.online.oracle import of_labels
from vidkd.detection.policies import CallBudget, Hindsight, LstmSelector, Policy, RandomCalls, load_selector, open_policy
from vidkd.detection.policies.lstm import objections, other_learning, read_about
from vidkd.engine.devices import pick_device
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.detections import Detections
from vidkd.video import open_video
from vidkd.video.files import content_of

log = logging.getLogger(__name__)


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
    method = maker.stream_method(student)
    found = run_along(method, (frame.image for frame in frames_of(course.stretches)))
    counts = counts_of(found, course, study)
    return {
        "parameters": sum(parameter.numel() for parameter in maker.grown(student).net.parameters()),
        "frames": len(course),
        "ranges": {name: list(bounds) for name, bounds in course.ranges.items()},
        "counts": {
            "right": counts.true_positives.tolist(),
            "wrong": counts.false_positives.tolist(),
            "missed": counts.false_negatives.tolist(),
        },
        "called": method.called,
        "kept": method.kept,
        "seconds": {name: round(value, 3) for name, value in {**method.seconds, "whole": time.perf_counter() - start}.items()},
        "oracle_frame_s": round(course.boxes.frame_s, 5),
        **({} if course.truth is None else {"annotated": judged(course.truth, found, study.spec.score).columns()}),
    }


def run_along(method: StreamMethod, frames: Iterable[NDArray[np.uint8]]) -> list[Detections]:
    """Scored boxes of every frame, each filed under its place in the stream.

    Raises DataError as soon as the oracle fails: a call that is spent without an answer makes another method of this one.
    """
    start, found = time.perf_counter(), []
    for place, frame in enumerate(frames):
        found.append(method.step(frame).at(place, None))
        if method.failed is not None:
            mend = "solve what the reason says (the oracle's file, memory, device), and run the same command again"
            raise DataError(f"the oracle or an update failed at frame {place} of the stream", reason=method.failed, hint=mend)
    method.seconds["stream"] = time.perf_counter() - start
    return found


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
        self.method = study.spec.methods[key.method]
        self.until = study.spec.streams[key.place].calls_until
        self._callable = len(course) if self.until is None else min(self.until, len(course))
        self.calls = calls_of(key.calls, self._callable)
        self.learning: Learning = learning_of(study.spec, key, chosen)

    def stream_method(self, student: Student) -> StreamMethod:
        """The method's own, with this student at its start."""
        if self.method.kind == "frozen":
            return Frozen(student)
        if self.method.kind == "oracle":
            return Asked(self.course.answers)
        if self.method.kind == "first_tenth":
            policy = FirstTenth(self.calls, len(self.course), self.until)
            return AdaptedOffline(self._learner(student, policy), policy.until, self.learning.update, self.key.seed)
        carrier: Carrier | None = None
        if self.method.kind == "flow":
            carrier = FlowCarrier()
        elif self.method.kind == "tracked":
            with open_video(self.course.stretches[0].path) as reader:
                carrier = TrackCarrier(fps=reader.info.average_fps)
        return OnlineLearning(self._learner(student, self._policy(student)), self.calls, self.until, carrier)

    def grown(self, student: Student) -> Student:
        """The student with what the method trains."""
        return student.for_update(self.learning.update, seed=self.key.seed) if self.method.learns else student

    def _learner(self, student: Student, policy: Policy) -> SynchronousLearner:
        known, spec = KnownOracle(self.course.answers, self.course.known), self.study.spec
        student = self.grown(student)
        oracle: Oracle = known
        if spec.oracle.heads:
            detector = self.study.oracle_files(self.places).open()
            if not isinstance(detector, DarknetDetector):
                raise ConfigError("oracle.heads asks for a darknet oracle", study=self.study.path, hint="leave out heads")
            oracle = HeadOracle(detector, student.detector)
        elif self.method.wrong:
            oracle = WrongOracle(known, self.method.wrong, self.key.seed)
        # one block as long as the frames that may be called: in part of a block policies would spend different numbers of calls
        budget = CallBudget(self.calls, len(self.course) if self.method.kind == "first_tenth" else self._callable)
        update = self.learning.update if self.method.kind == "learn" else Update(steps=0, replay=0)
        learner = SynchronousLearner(student, oracle, policy, budget, update=update, replay=self.learning.replay, score=spec.score)
        known.follow(learner)
        return learner

    def _policy(self, student: Student) -> Policy:
        if self.method.policy == HINDSIGHT:
            return Hindsight(self._true_errors())
        selector = selector_name(self.study, self.key)
        if selector is None:
            return open_policy(self.method.policy, seed=self.key.seed)
        return self._selector(self.study.find(selector, self.places), student)

    def _selector(self, path: Path, student: Student) -> Policy:
        """The policy of a selector's file; logs what of update, replay and budget is other than in its training.

        One that has seen the stream, or watched another student, would be judged by what it knows already: ConfigError, as for a file that
        does not say so much. A video is known by its content: a copy in another encoding is another video.
        """
        policy, about = LstmSelector(load_selector(path)), read_about(path)
        segments = self.study.spec.streams[self.key.place].segments
        videos = {segment.video: content_of(self.study.find(segment.video, self.places)) for segment in segments}
        if found := objections(about, student.detector.net, student.detector.resize, videos):
            hint = "train one on other videos with this student: vidkd train_selector"
            raise ConfigError(f"the selector {path} {' and '.join(found)}", stream=self.key.place, hint=hint)
        if differences := other_learning(about, {**dataclasses.asdict(self.learning), "budget": self.key.calls, "every": 1}):
            log.warning("%s: the selector %s was trained with other learning: %s", self.key, path, "; ".join(differences))
        return policy

    def _true_errors(self) -> NDArray[np.float64]:
        """Boxes of every frame on which student and oracle disagree, of a student that learns from as many calls at random.

        Their number, not 1 - F1: that of a frame with one missed box is 1, and there is little to learn from it.
        """
        learner = self._learner(_student(self.study, self.places), RandomCalls(self.key.seed))
        method = OnlineLearning(learner, self.calls, self.until)
        counts = counts_of(run_along(method, (frame.image for frame in frames_of(self.course.stretches))), self.course, self.study)
        return np.asarray(counts.false_positives + counts.false_negatives, np.float64)
