"""Which detection of a frame belongs to which annotated box."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.detection.annotations import ANY_CLASS
from vidkd.runtime.detections import Detections
from vidkd.runtime.nms import box_area, box_iou


@dataclass(frozen=True, eq=False)
class Matching:
    """What became of each detection and each true box of a frame.

    truth_of: (N,) int64, the true box that a detection was matched to, -1 for none. neutral: (N,) bool, unmatched detections that an
    ignored region excuses. found: (M,) bool, true boxes that were matched. scored: (M,) bool, true boxes that are no ignored regions.
    """

    truth_of: NDArray[np.int64]
    neutral: NDArray[np.bool_]
    found: NDArray[np.bool_]
    scored: NDArray[np.bool_]

    @property
    def counts(self) -> tuple[int, int, int]:
        """True positives, false positives, false negatives."""
        wrong = (self.truth_of < 0) & ~self.neutral
        return int(self.found.sum()), int(wrong.sum()), int((self.scored & ~self.found).sum())


def match(
    detections: Detections,
    boxes: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    iou: float = 0.5,
    ignore: NDArray[np.bool_] | None = None,
    class_aware: bool = True,
) -> Matching:
    """Greedy matching as COCO does it: by falling score, each detection takes the free true box that it overlaps most, from `iou` on.

    boxes: (M, 4) x1 y1 x2 y2 in pixels; labels: (M,), ANY_CLASS fits every detection; ignore: (M,), None for no ignored region. Equal
    scores go in the order given, equal overlaps to the true box given first. A detection without a box is neutral if at least `iou` of its
    own area lies in one ignored region of its class; a region excuses any number of them.
    Raises ValueError if the lengths differ or `iou` is not in (0, 1].
    """
    ignored = np.zeros(len(boxes), bool) if ignore is None else np.asarray(ignore, bool)
    if not len(boxes) == len(labels) == len(ignored):
        raise ValueError(f"boxes, labels and ignore differ in number: {len(boxes)}, {len(labels)}, {len(ignored)}")
    if not 0 < iou <= 1:
        raise ValueError(f"iou must lie in (0, 1], not {iou}")
    overlap = box_iou(detections.boxes, boxes)
    fits = np.ones(overlap.shape, bool)
    if class_aware:
        fits = (detections.labels[:, None] == labels[None, :]) | (np.asarray(labels)[None, :] == ANY_CLASS)
    truth_of = _greedy(np.where(fits & ~ignored, overlap, -1.0), detections.scores, iou)
    found = np.zeros(len(boxes), bool)
    found[truth_of[truth_of >= 0]] = True
    neutral = (truth_of < 0) & ((share_inside(detections.boxes, boxes) >= iou) & fits & ignored).any(axis=1)
    return Matching(truth_of, neutral, found, ~ignored)


def _greedy(overlap: NDArray[np.float64], scores: NDArray[np.float32], iou: float) -> NDArray[np.int64]:
    truth_of = np.full(len(scores), -1, np.int64)
    if not overlap.shape[1]:
        return truth_of
    free = overlap.copy()
    for number in np.argsort(-scores, kind="stable"):
        best = int(free[number].argmax())
        if free[number, best] >= iou:
            truth_of[number] = best
            free[:, best] = -1
    return truth_of


def share_inside(boxes: NDArray[np.floating], regions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share (N, M), in [0, 1], of each box's own area that lies in each region; 0 for a box without area. Both x1 y1 x2 y2."""
    overlap, area = box_iou(boxes, regions), box_area(boxes)[:, None]
    shared = overlap * (area + box_area(regions)[None, :]) / (1 + overlap)  # from IoU = shared / (area + area - shared)
    share = np.divide(shared, area, out=np.zeros_like(shared), where=area > 0)
    return np.asarray(share.round(12))  # so that an exact half is still one after the detour
