"""An oracle that errs, to see what a student makes of it."""

import dataclasses
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.detection.online import Answer, Oracle
from vidkd.runtime.detections import Detections

DROPPED, SHIFTED, DOUBLED = range(3)
SHIFT = (0.5, 1.0)
"""A shifted box moves along each side by so much of that side, either way, so that it overlaps where it was by an IoU of 1/7 at most."""


@dataclass(frozen=True, kw_only=True)
class BoxErrors:
    """Each box is in error by the chance `share`: dropped, shifted, or joined by a false box of its size, class and score, a third each.

    A false box lies anywhere in the frame. What is drawn depends on `seed` and on the picture alone, so a frame that returns meets the
    same errors. Raises ConfigError for a share outside [0, 1].
    """

    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"the share of wrong boxes must lie in [0, 1], not {self.share}")

    def __call__(self, found: Detections, frame: NDArray[np.uint8]) -> Detections:
        """What the oracle says instead. frame: RGB uint8 (H, W, 3), whose boxes these are."""
        rng = np.random.default_rng([self.seed, zlib.crc32(np.ascontiguousarray(frame).data)])
        error = np.where(rng.random(len(found)) < self.share, rng.integers(0, 3, len(found)), -1)
        boxes = found.boxes.copy()
        boxes[error == SHIFTED] += _shifts(boxes[error == SHIFTED], rng)
        false = _elsewhere(found.boxes[error == DOUBLED], frame.shape[1], frame.shape[0], rng)
        stays = error != DROPPED
        return Detections(
            boxes=np.concatenate([boxes[stays], false]),
            scores=np.concatenate([found.scores[stays], found.scores[error == DOUBLED]]),
            labels=np.concatenate([found.labels[stays], found.labels[error == DOUBLED]]),
            frame_index=found.frame_index,
            time_s=found.time_s,
        )


class WrongOracle:
    """Another oracle's boxes with errors. Raises ConfigError for one that gives raw heads, which would stay right."""

    gives_heads = False

    def __init__(self, oracle: Oracle, errors: BoxErrors) -> None:
        if oracle.gives_heads:
            raise ConfigError("raw heads of an oracle are not made wrong", hint="an oracle that gives boxes alone")
        self.oracle, self.errors = oracle, errors

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:
        """As `Oracle`."""
        answer = self.oracle(frame)
        return dataclasses.replace(answer, detections=self.errors(answer.detections, frame))


def _shifts(boxes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    sides = boxes[:, 2:] - boxes[:, :2]
    moved = sides * rng.uniform(*SHIFT, sides.shape) * rng.choice([-1.0, 1.0], sides.shape)
    return np.tile(moved, 2).astype(np.float32)


def _elsewhere(boxes: NDArray[np.float32], width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    sides = np.minimum(boxes[:, 2:] - boxes[:, :2], [width, height])
    corners = rng.random(sides.shape) * (np.asarray([width, height]) - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
