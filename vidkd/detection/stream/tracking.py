"""ByteTrack: boxes of one object along a video get one number; weak boxes may continue a track but start none."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import require
from vidkd.detection.stream.stepper import Around, Stepper
from vidkd.runtime.detections import Detections, box_iou

UNTRACKED = -1
STRONG, STARTS = 0.25, 0.35
"""Least scores of boxes that are matched first, and of those that start a track."""
MOST_COST_STRONG, MOST_COST_WEAK, MOST_COST_NEW = 0.8, 0.5, 0.7
LOST_S = 1.0
"""A track that is not seen for so long is given up."""
OTHER_CLASS = 1e3

Array = NDArray[np.float64]

# Spread of a box's place and of its change from frame to frame, as parts of its height; of the ratio of its sides, absolute.
_PLACE, _SPEED = 1 / 20, 1 / 160
_RATIO, _RATIO_SPEED, _RATIO_SEEN = 1e-2, 1e-5, 1e-1
_MOTION = np.eye(8) + np.eye(8, k=4)


Tracks: TypeAlias = dict[str, NDArray[Any]]
"""One row a track. mean (N, 8), covariance (N, 8, 8): of centre x, y, ratio width / height, height, and the change of each in a frame.
labels; ids: -1 until a track is seen twice in a row; seen: number of the frame in which it was last seen.
"""


class ByteTracker:
    """Give `update` the frames of a video in order. fps: frames a second that it will get.

    Source: Zhang et al. 2022 (arXiv 2110.06864), thresholds of score as in its port in `supervision`; reconstruction. Unlike there, boxes
    of different classes are never one track. A track gets its number when it is seen in two frames running.
    Raises MissingExtraError without scipy.
    """

    def __init__(self, *, fps: float) -> None:
        self._pairs = require("scipy.optimize", "boxes", package="scipy").linear_sum_assignment
        self._lost_frames = max(1, round(fps * LOST_S))
        self._frame, self._next_id = 0, 1
        self._tracks = _started(Detections.none(), 0)

    def update(self, found: Detections) -> NDArray[np.int64]:
        """The number of each box's track (N,), -1 where it has none (yet)."""
        self._frame += 1
        tracks = self._tracks
        tracks["mean"][tracks["seen"] < self._frame - 1, 7] = 0  # what is hidden does not go on growing
        spread = _spread(tracks["mean"][:, 3], _RATIO)
        tracks["covariance"] = _MOTION @ tracks["covariance"] @ _MOTION.T + _diagonal(spread**2)
        tracks["mean"] = tracks["mean"] @ _MOTION.T
        self._box_of = np.full(len(tracks["ids"]), -1)  # by track, the box that was matched to it
        self._free = np.ones(len(found), bool)
        strong, known = found.scores >= STRONG, tracks["ids"] != UNTRACKED
        self._match(found, known, strong, MOST_COST_STRONG, by_score=True)
        self._match(found, known & (tracks["seen"] == self._frame - 1), ~strong, MOST_COST_WEAK, by_score=False)
        self._match(found, ~known, strong, MOST_COST_NEW, by_score=True)
        return self._settle(found, strong)

    def state(self) -> Tracks:
        """All that later frames depend on, as arrays."""
        return {**self._tracks, "counts": np.asarray([self._frame, self._next_id])}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a `state`."""
        self._tracks = {name: state[name] for name in self._tracks}
        self._frame, self._next_id = map(int, state["counts"])

    def _match(self, found: Detections, which: NDArray[np.bool_], boxes: NDArray[np.bool_], most: float, *, by_score: bool) -> None:
        """Pair tracks with free boxes, at the least sum of 1 - overlap (times score)."""
        rows, columns = np.flatnonzero(which & (self._box_of < 0)), np.flatnonzero(boxes & self._free)
        if not len(rows) or not len(columns):
            return
        overlap = box_iou(_corners(self._tracks["mean"][rows]), found.boxes[columns]).astype(np.float64)
        cost = 1 - overlap * (found.scores[columns] if by_score else 1)
        cost[self._tracks["labels"][rows, None] != found.labels[columns]] = OTHER_CLASS
        for row, column in zip(*self._pairs(cost), strict=True):
            if cost[row, column] <= most:
                self._box_of[rows[row]] = columns[column]
                self._free[columns[column]] = False

    def _settle(self, found: Detections, strong: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Move matched tracks to their boxes, number new ones, give up lost ones, start others."""
        tracks, matched = self._tracks, self._box_of >= 0
        # the Kalman filter's update
        mean, covariance = tracks["mean"][matched], tracks["covariance"][matched]
        noise = _spread(mean[:, 3], _RATIO_SEEN)[:, :4] ** 2
        gain = np.linalg.solve(covariance[:, :4, :4] + _diagonal(noise), covariance[:, :4, :]).swapaxes(1, 2)
        off = _centres(found.boxes[self._box_of[matched]]) - mean[:, :4]
        tracks["mean"][matched] = mean + (gain @ off[..., None])[..., 0]
        tracks["covariance"][matched] = covariance - gain @ covariance[:, :4, :]
        fresh = np.flatnonzero(matched & (tracks["ids"] == UNTRACKED))
        tracks["ids"][fresh] = np.arange(self._next_id, self._next_id + len(fresh))
        self._next_id += len(fresh)
        tracks["seen"][matched] = self._frame
        ids = np.full(len(found), UNTRACKED, np.int64)
        ids[self._box_of[matched]] = tracks["ids"][matched]
        stays = matched | ((tracks["ids"] != UNTRACKED) & (self._frame - tracks["seen"] <= self._lost_frames))
        starting = _started(found.select(self._free & strong & (found.scores >= STARTS)), self._frame)
        self._tracks = {name: np.concatenate([part[stays], starting[name]]) for name, part in tracks.items()}
        return ids


def _started(found: Detections, frame: int) -> Tracks:
    """A track at rest for each box."""
    places = _centres(found.boxes)
    spread = _spread(places[:, 3], _RATIO) * np.repeat([2.0, 10.0], 4)
    return {
        "mean": np.concatenate([places, np.zeros_like(places)], 1),
        "covariance": _diagonal(spread**2),
        "labels": found.labels,
        "ids": np.full(len(found), UNTRACKED, np.int64),
        "seen": np.full(len(found), frame, np.int64),
    }


def _spread(heights: Array, ratio: float) -> Array:
    """Standard deviations (N, 8) of boxes of these heights."""
    ones = np.ones_like(heights)
    place, speed = _PLACE * heights, _SPEED * heights
    return np.stack([place, place, ratio * ones, place, speed, speed, _RATIO_SPEED * ones, speed], 1)


def _diagonal(values: Array) -> Array:
    """(N, K) as diagonal matrices (N, K, K)."""
    return np.asarray(values[..., None] * np.eye(values.shape[1]))


def _centres(boxes: NDArray[np.float32]) -> Array:
    """x1 y1 x2 y2 as centre x, y, width / height, height."""
    corners = boxes.astype(np.float64)
    width, height = (corners[:, 2:] - corners[:, :2]).T
    return np.stack([*((corners[:, :2] + corners[:, 2:]) / 2).T, width / height, height], 1)


def _corners(mean: Array) -> NDArray[np.float32]:
    """The inverse of `_centres`, of the first four columns."""
    half = np.stack([mean[:, 2] * mean[:, 3], mean[:, 3]], 1) / 2
    return np.concatenate([mean[:, :2] - half, mean[:, :2] + half], 1).astype(np.float32)


class Tracked(Around):
    """A `Stepper` whose boxes get track numbers. No box is left out: those without a track have -1."""

    def __init__(self, inner: Stepper, tracker: ByteTracker) -> None:
        super().__init__(inner)
        self._tracker = tracker

    def changed(self, found: Detections, width: int, height: int) -> Detections:  # noqa: ARG002 - tracks depend only on the boxes
        """See Around."""
        return dataclasses.replace(found, track_ids=self._tracker.update(found))

    def state(self) -> bytes:
        """See Stepper: the tracks, and the state of the stepper inside."""
        file = io.BytesIO()
        arrays: dict[str, Any] = {**self._tracker.state(), "inner": np.frombuffer(self._inner.state(), np.uint8)}
        np.savez(file, **arrays)
        return file.getvalue()

    def restore(self, state: bytes) -> None:
        """See Stepper."""
        with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
            self._tracker.restore(arrays)
            self._inner.restore(arrays["inner"].tobytes())
