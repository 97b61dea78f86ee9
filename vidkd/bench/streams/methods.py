"""The methods along a stream that a study compares: an online learner under a policy, and baselines."""

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.timing import Stopwatch
from vidkd.data.flow import dis_flow
from vidkd.detection.online import KeyFrame, Student, SynchronousLearner, Trainer, Update
from vidkd.detection.online.learner import LearnerStep, key_frame_of
from vidkd.detection.policies import Observation, Policy
from vidkd.detection.stream import ByteTracker
from vidkd.runtime.detections import Detections, box_iou

FLOW_SHORT_SIDE = 256
"""Flow is computed on frames of this shorter side; finer flow moves boxes hardly otherwise and costs more than the student."""
LEAST_OVERLAP = 0.3
"""Of an oracle's box with the student's box whose track it follows."""


class Carrier(Protocol):
    """Keeps boxes on their objects."""

    def carry(self, frame: NDArray[np.uint8], student: Detections) -> Detections:
        """The boxes in the next frame, RGB uint8 (H, W, 3), in which the student found its own; none before the first `take`.

        They are cut at the edges of the frame. One whose centre has left it is not shown, until it comes back.
        """

    def take(self, answer: Detections) -> None:
        """The oracle's boxes in that same frame are carried on from now on."""


class FlowCarrier:
    """Each box moves by the median DIS flow inside it. Where the size of frames changes nothing moves."""

    def __init__(self) -> None:
        self._boxes = Detections.none()
        self._last: NDArray[np.uint8] | None = None

    def carry(self, frame: NDArray[np.uint8], student: Detections) -> Detections:  # noqa: ARG002 - it goes by the picture
        """As `Carrier`."""
        scale = min(1.0, FLOW_SHORT_SIDE / min(frame.shape[:2]))
        small = np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        if self._last is not None and self._last.shape == small.shape and len(self._boxes):
            flow = dis_flow(self._last[None], small[None])[0]
            moves = np.asarray([_median_in(flow, box * scale) for box in self._boxes.boxes]) / scale
            self._boxes = _moved(self._boxes, moves)
        self._last = small
        return _in_frame(self._boxes, frame)

    def take(self, answer: Detections) -> None:
        """As `Carrier`."""
        self._boxes = answer


class TrackCarrier:
    """Each of the oracle's boxes moves as the student's box that it overlaps most does along its track (`ByteTracker`).

    One without such a box, or whose track is lost for a while, stays where it is. fps: frames a second, by which tracks are given up.
    """

    def __init__(self, *, fps: float) -> None:
        self._tracker = ByteTracker(fps=fps)
        self._boxes = Detections.none()
        self._student, self._ids = Detections.none(), np.zeros(0, np.int64)
        self._follows: dict[int, int] = {}
        self._seen: dict[int, NDArray[np.float32]] = {}

    def carry(self, frame: NDArray[np.uint8], student: Detections) -> Detections:
        """As `Carrier`."""
        self._student, self._ids = student, self._tracker.update(student)
        centres = _centres(student.boxes)
        now = {int(track): centres[place] for place, track in enumerate(self._ids) if track >= 0}
        moves = np.zeros((len(self._boxes), 2))
        for place, track in self._follows.items():
            if track in now:
                moves[place] = now[track] - self._seen[track]
        self._seen |= now
        self._boxes = _moved(self._boxes, moves)
        return _in_frame(self._boxes, frame)

    def take(self, answer: Detections) -> None:
        """As `Carrier`."""
        self._boxes, self._follows = answer, {}
        tracked = np.flatnonzero(self._ids >= 0)
        if not len(tracked) or not len(answer):
            return
        overlap = box_iou(answer.boxes, self._student.boxes[tracked])
        overlap[answer.labels[:, None] != self._student.labels[tracked]] = 0
        for place, nearest in enumerate(overlap.argmax(axis=1)):
            if overlap[place, nearest] >= LEAST_OVERLAP:
                self._follows[place] = int(self._ids[tracked[nearest]])


def _moved(found: Detections, moves: NDArray[np.floating]) -> Detections:
    """Boxes moved by (N, 2) pixels."""
    boxes = found.boxes + np.tile(np.asarray(moves, np.float32).reshape(-1, 2), 2)
    return Detections(boxes=boxes, scores=found.scores, labels=found.labels)


def _in_frame(found: Detections, frame: NDArray[np.uint8]) -> Detections:
    """What lies in a frame (H, W, 3) of boxes that may have left it."""
    size = np.asarray([frame.shape[1], frame.shape[0]], np.float32)
    centres = _centres(found.boxes)
    seen = found.select(np.asarray(((centres >= 0) & (centres < size)).all(axis=1), bool))
    return seen.clipped(frame.shape[1], frame.shape[0])


def _median_in(flow: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median flow (2,) inside a box; no motion where it lies outside the frame."""
    height, width = flow.shape[:2]
    x1, y1 = np.floor(box[:2]).astype(int).clip(0)
    x2, y2 = np.ceil(box[2:]).astype(int).clip(0, [width, height])
    inside = flow[y1:y2, x1:x2].reshape(-1, 2)
    return np.asarray(np.median(inside, axis=0) if len(inside) else np.zeros(2), np.float32)


def _centres(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2, np.float32)


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
