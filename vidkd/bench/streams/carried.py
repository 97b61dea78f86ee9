"""Baselines without learning: the oracle's last boxes, carried on from frame to frame."""

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.data.flow import dis_flow
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
