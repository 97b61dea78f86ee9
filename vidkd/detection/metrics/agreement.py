"""How far a light detector agrees with a heavy one on the same frames; no annotation is needed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidkd.detection.metrics.counts import FrameCounts
from vidkd.detection.metrics.matching import match
from vidkd.runtime.detections import Detections

SCORE = 0.4
"""From which score on a box counts, by default; the public TKD code shows boxes from this one."""
IOU = 0.5
"""From which overlap on two boxes are the same one, by default."""


def f1_against(
    detections: Sequence[Detections],
    oracle: Sequence[Detections],
    *,
    iou: float = IOU,
    score: float = SCORE,
    oracle_score: float = SCORE,
    class_aware: bool = True,
) -> FrameCounts:
    """Counts of a detector's boxes against the oracle's own boxes, which stand for the truth; `.f1` of the result pools them.

    detections, oracle: one entry a frame, the same frames in the same order. score, oracle_score: boxes below are left out, of the detector
    and of the oracle. Labels of both index one list of classes; without class_aware a box may be called anything. Matching: see `match`.
    Raises ValueError if the sides differ in number or in the index of a frame.
    """
    if len(detections) != len(oracle):
        raise ValueError(f"{len(detections)} frames of the detector, {len(oracle)} of the oracle")
    for own, other in zip(detections, oracle, strict=True):
        if own.frame_index != other.frame_index:
            raise ValueError(f"frame {own.frame_index} of the detector beside frame {other.frame_index} of the oracle")
    counts = []
    for own, other in zip(detections, oracle, strict=True):
        truth = other.select(other.scores >= oracle_score)
        found = own.select(own.scores >= score)
        counts.append(match(found, truth.boxes, truth.labels, iou=iou, class_aware=class_aware).counts)
    return FrameCounts.of([frame.frame_index for frame in oracle], counts)


def disagreement(
    student: Detections,
    oracle: Detections,
    *,
    iou: float = IOU,
    score: float = SCORE,
    oracle_score: float = SCORE,
    class_aware: bool = True,
) -> float:
    """1 - F1 of one frame, in [0, 1]: 0 where all boxes agree or neither side has one, 1 where no box is shared.

    Arguments and errors: see `f1_against`.
    """
    counts = f1_against([student], [oracle], iou=iou, score=score, oracle_score=oracle_score, class_aware=class_aware)
    return 1.0 - counts.f1


def expected_disagreement(scores: NDArray[np.float32], *, score: float = SCORE) -> float:
    """The disagreement that a detector's own scores promise: that of one frame if each box is right with the probability of its score.

    scores: of all boxes of a frame, those below `score` too, which are not shown: what is right among them will be missed. In [0, 1], 0
    without any. Expected counts stand in for counts, so it is no expectation of 1 - F1 itself. Source: ours.
    """
    shown = scores >= score
    right, missed = float(scores[shown].sum()), float(scores[~shown].sum())
    wrong = int(shown.sum()) - right
    every = 2 * right + wrong + missed
    return (wrong + missed) / every if every > 0 else 0.0
