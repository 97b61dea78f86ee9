"""An oracle that errs, to see what a student makes of it."""

import dataclasses
import zlib

import numpy as np
from numpy.typing import NDArray

from vidkd.detection.online import Answer, Oracle
from vidkd.runtime.detections import Detections

DROPPED, SHIFTED, DOUBLED = range(3)
SHIFT = (0.5, 1.0)
"""A shifted box moves along each side by so much of that side, either way, so that it overlaps where it was by an IoU of 1/7 at most."""


class WrongOracle:
    """Another oracle's boxes, each in error with probability `share`: dropped, shifted, or joined by a false box like it.

    A third of the errors is of each kind; a false box is anywhere in the frame. What is drawn depends only on `seed` and on the picture, so
    a frame that returns meets the same errors. Not for an oracle that gives raw heads, which would stay right.
    """

    gives_heads = False

    def __init__(self, oracle: Oracle, share: float, seed: int = 0) -> None:
        self.oracle, self.share, self.seed = oracle, share, seed

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:
        """As `Oracle`."""
        answer = self.oracle(frame)
        found = answer.detections
        rng = np.random.default_rng([self.seed, zlib.crc32(np.ascontiguousarray(frame).data)])
        error = np.where(rng.random(len(found)) < self.share, rng.integers(0, 3, len(found)), -1)
        boxes = found.boxes.copy()
        boxes[error == SHIFTED] += _shifts(boxes[error == SHIFTED], rng)
        doubled = found.select(np.flatnonzero(error == DOUBLED))
        false = _elsewhere(doubled.boxes, frame.shape[1], frame.shape[0], rng)
        stays = error != DROPPED
        wrong = Detections(
            boxes=np.concatenate([boxes[stays], false]),
            scores=np.concatenate([found.scores[stays], doubled.scores]),
            labels=np.concatenate([found.labels[stays], doubled.labels]),
            frame_index=found.frame_index,
            time_s=found.time_s,
        )
        return dataclasses.replace(answer, detections=wrong)


def _shifts(boxes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    sides = boxes[:, 2:] - boxes[:, :2]
    moved = sides * rng.uniform(*SHIFT, sides.shape) * rng.choice([-1.0, 1.0], sides.shape)
    return np.tile(moved, 2).astype(np.float32)


def _elsewhere(boxes: NDArray[np.float32], width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    sides = np.minimum(boxes[:, 2:] - boxes[:, :2], [width, height])
    corners = rng.random(sides.shape) * (np.asarray([width, height]) - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
