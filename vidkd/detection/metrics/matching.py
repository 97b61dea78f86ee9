"""Which detection belongs to which box, and the counts, F1 and recall that follow from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.detection.annotations import ANY_CLASS, BoxManifest, FrameKey, LabelledFrame
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


Counted = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameCounts:
    """Counts of F frames in the order of the stream.

    frame_indices, true_positives, false_positives, false_negatives: (F,) int64. Pooled figures sum the counts over frames first.
    Raises ValueError where the lengths differ.
    """

    frame_indices: NDArray[np.int64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    false_negatives: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = {len(self.frame_indices), len(self.true_positives), len(self.false_positives), len(self.false_negatives)}
        if len(lengths) != 1:
            raise ValueError(f"counts of unlike numbers of frames: {sorted(lengths)}")

    @classmethod
    def of(cls, frame_indices: Sequence[int], counts: Sequence[tuple[int, int, int]]) -> "FrameCounts":
        """From a triple (true positives, false positives, false negatives) a frame."""
        table = np.asarray(counts, np.int64).reshape(-1, 3)
        return cls(
            frame_indices=np.asarray(frame_indices, np.int64),
            true_positives=table[:, 0],
            false_positives=table[:, 1],
            false_negatives=table[:, 2],
        )

    def __len__(self) -> int:
        return len(self.frame_indices)

    @property
    def f1(self) -> float:
        """Pooled F1 in [0, 1], 2 TP / (2 TP + FP + FN); 1 where nothing is there and nothing was found."""
        return float(pooled_f1(self.true_positives.sum(), self.false_positives.sum(), self.false_negatives.sum()))


def pooled_f1(right: Counted, wrong: Counted, missed: Counted) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN), entry by entry of counts of one shape, in [0, 1]; 1 where nothing is there and nothing was found."""
    whole = np.asarray(2 * right + wrong + missed, np.float64)
    return np.asarray(np.divide(2.0 * right, whole, out=np.ones_like(whole), where=whole > 0))


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
) -> FrameCounts:
    """Counts of a detector's boxes against the oracle's own boxes, used as truth; `.f1` of the result pools them.

    detections, oracle: one entry a frame, the same frames in the same order. score: boxes below are left out on both sides.
    Labels of both index one list of classes. Matching: see `match`.
    Raises ValueError if the sides differ in number or in the index of a frame.
    """
    if len(detections) != len(oracle):
        raise ValueError(f"{len(detections)} frames of the detector, {len(oracle)} of the oracle")
    for own, other in zip(detections, oracle, strict=True):
        if own.frame_index != other.frame_index:
            raise ValueError(f"frame {own.frame_index} of the detector paired with frame {other.frame_index} of the oracle")
    counts = []
    for own, other in zip(detections, oracle, strict=True):
        truth = other.select(other.scores >= score)
        found = own.select(own.scores >= score)
        counts.append(match(found, truth.boxes, truth.labels, iou=iou).counts)
    return FrameCounts.of([frame.frame_index for frame in oracle], counts)


def disagreement(
    student: Detections,
    oracle: Detections,
    *,
    iou: float = IOU,
    score: float = SCORE,
) -> float:
    """1 - F1 of one frame, in [0, 1]: 0 where all boxes agree or neither side has one, 1 where no box is shared.

    Arguments and errors: see `f1_against`.
    """
    counts = f1_against([student], [oracle], iou=iou, score=score)
    return 1.0 - counts.f1


def expected_disagreement(scores: NDArray[np.float32], *, score: float = SCORE) -> float:
    """The disagreement that a detector's own scores promise: that of one frame if each box is right with the probability of its score.

    scores: of all boxes of a frame, those below `score` too, which are not shown: what is right among them will be missed. In [0, 1], 0
    without any. Expected counts replace counts, so it is no expectation of 1 - F1 itself. Source: ours.
    """
    shown = scores >= score
    right, missed = float(scores[shown].sum()), float(scores[~shown].sum())
    wrong = int(shown.sum()) - right
    every = 2 * right + wrong + missed
    return (wrong + missed) / every if every > 0 else 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameRecall:
    """Annotated objects, and how many of them were found, of F frames in the manifest's order.

    keys: (path, frame index) of each frame. objects, found: (F,) int64.
    """

    keys: tuple[FrameKey, ...]
    objects: NDArray[np.int64]
    found: NDArray[np.int64]

    @property
    def recall(self) -> float:
        """Pooled share of the objects that were found, in [0, 1]."""
        return int(self.found.sum()) / int(self.objects.sum())

    @property
    def recall_by_path(self) -> dict[str, float]:
        """Recall of each video (each path)."""
        paths = np.asarray([path for path, _ in self.keys])
        masks = {path: paths == path for path in dict.fromkeys(paths.tolist())}
        return {path: int(self.found[mask].sum()) / int(self.objects[mask].sum()) for path, mask in masks.items()}


def found_in(frame: LabelledFrame, detections: Mapping[FrameKey, Detections], classes: int) -> Detections:
    """The entry of a frame; ValueError if there is none, or if its labels are out of range."""
    found = detections.get(frame.key)
    if found is None:
        raise ValueError(f"no detections of frame {frame.key}; where nothing was found, say so with Detections.none()")
    if len(found) and not 0 <= found.labels.min() <= found.labels.max() < classes:
        raise ValueError(f"labels of frame {frame.key} are out of range 0 to {classes - 1}")
    return found


def recall_of(truth: BoxManifest, detections: Mapping[FrameKey, Detections], *, score: float = 0.0) -> FrameRecall:
    """How many annotated objects were found, by boxes of at least `score` that overlap them by IOU and have their class.

    Detections are filed under (path, frame index). Boxes of one frame with the same track id are one object with several names (a cyclist:
    "bicycle" or "person"), found under any of them. Ignored regions are nothing to find; frames with nothing to find are left out.
    Raises ValueError for a frame without an entry or a label out of range, DataError if no frame is left.
    """
    frames = [frame for frame in truth.frames if not frame.ignore.all()]
    if not frames:
        raise DataError(f"data set '{truth.name}' has no frame with an object to find")
    counts = []
    for frame in frames:
        found = found_in(frame, detections, len(truth.classes))
        counts.append(_objects(frame, found.select(found.scores >= score)))
    table = np.asarray(counts, np.int64)
    return FrameRecall(keys=tuple(frame.key for frame in frames), objects=table[:, 0], found=table[:, 1])


def _objects(frame: LabelledFrame, detections: Detections) -> tuple[int, int]:
    """(Objects, found ones) of a frame."""
    result = match(detections, frame.boxes, frame.labels, iou=IOU, ignore=frame.ignore)
    names = np.arange(len(frame)) if frame.track_ids is None else frame.track_ids
    return len(np.unique(names[result.scored])), len(np.unique(names[result.found]))
