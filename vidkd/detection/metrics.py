"""How good detections are: against annotated frames, and against what a heavier detector finds in the same frames."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.detection.annotations import ANY_CLASS, BoxManifest, FrameKey, LabelledFrame
from vidkd.runtime.detections import Detections, box_area, box_iou

SCORE = 0.4
"""From which score on a box counts, by default; the public TKD code shows boxes from this one."""
IOU = 0.5
"""From which overlap on two boxes are the same one, by default."""


class Matching(NamedTuple):
    """What became of the N detections of a frame at each of K overlaps (K, N), or at one (N,).

    truth_of: int64, the true box that a detection was matched to, -1 for none. neutral: bool, unmatched detections that an ignored region
    excuses.
    """

    truth_of: NDArray[np.int64]
    neutral: NDArray[np.bool_]


def match(
    detections: Detections,
    boxes: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    iou: float = IOU,
    ignore: NDArray[np.bool_] | None = None,
) -> Matching:
    """Greedy matching as COCO does it: by falling score, each detection takes the free true box that it overlaps most, from `iou` on.

    boxes: (M, 4) x1 y1 x2 y2 in pixels; labels: (M,), ANY_CLASS fits every detection; ignore: (M,), None for no ignored region. Equal
    scores go in the order given, equal overlaps to the true box given first. A detection without a box is neutral if at least `iou` of its
    own area lies in one ignored region of its class; a region excuses any number of them.
    """
    found = match_at_each(detections, boxes, labels, [iou], np.zeros(len(boxes), bool) if ignore is None else ignore)
    return Matching(found.truth_of[0], found.neutral[0])


def match_at_each(
    detections: Detections,
    boxes: NDArray[np.floating],
    labels: NDArray[np.int64],
    ious: Sequence[float] | NDArray[np.float64],
    ignore: NDArray[np.bool_],
) -> Matching:
    """`match` at each of K rising overlaps."""
    least = np.asarray(ious)
    fits = (detections.labels[:, None] == labels[None, :]) | (labels[None, :] == ANY_CLASS)
    overlap = np.where(fits & ~ignore, box_iou(detections.boxes, boxes), -1.0)
    free, rows = np.ones((len(least), len(boxes)), bool), np.arange(len(least))
    truth_of = np.full((len(least), len(detections)), -1, np.int64)
    matchable = overlap.max(axis=1, initial=-1.0) >= least[0]
    for number in np.argsort(-detections.scores, kind="stable"):
        if matchable[number]:
            left = np.where(free, overlap[number], -1.0)
            best = left.argmax(axis=1)
            taken = np.flatnonzero(left[rows, best] >= least)
            truth_of[taken, number] = best[taken]
            free[taken, best[taken]] = False
    inside = share_inside(detections.boxes, boxes) if ignore.any() else np.zeros_like(overlap)
    excused = np.where(fits & ignore, inside, -1.0).max(axis=1, initial=-1.0)
    return Matching(truth_of, (truth_of < 0) & (excused >= least[:, None]))


def share_inside(boxes: NDArray[np.floating], regions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share (N, M), in [0, 1], of each box's own area that lies in each region; 0 for a box without area. Both x1 y1 x2 y2."""
    overlap, area = box_iou(boxes, regions), box_area(boxes)[:, None]
    shared = overlap * (area + box_area(regions)[None, :]) / (1 + overlap)  # from IoU = shared / (area + area - shared)
    share = np.divide(shared, area, out=np.zeros_like(shared), where=area > 0)
    return np.asarray(share.round(12))  # so that an exact half is still one after the detour


Counted = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FrameCounts:
    """Counts of F frames in the order of the stream, (F,) int64 each."""

    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    false_negatives: NDArray[np.int64]

    @property
    def f1(self) -> float:
        """Pooled F1 in [0, 1], 2 TP / (2 TP + FP + FN); 1 where nothing is there and nothing was found."""
        return float(pooled_f1(self.true_positives.sum(), self.false_positives.sum(), self.false_negatives.sum()))


def pooled_f1(right: Counted, wrong: Counted, missed: Counted) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN), entry by entry of counts of one shape, in [0, 1]; 1 where nothing is there and nothing was found."""
    whole = np.asarray(2 * right + wrong + missed, np.float64)
    return np.asarray(np.divide(2.0 * right, whole, out=np.ones_like(whole), where=whole > 0))


def f1_against(detections: Sequence[Detections], oracle: Sequence[Detections], *, iou: float = IOU, score: float = SCORE) -> FrameCounts:
    """Counts of a detector's boxes against the oracle's own boxes, used as truth; `.f1` of the result pools them.

    detections, oracle: one entry a frame, the same frames in the same order. score: boxes below are left out on both sides.
    Labels of both index one list of classes. Matching: see `match`. Raises ValueError if the sides differ in number.
    """
    counts = np.zeros((3, len(oracle)), np.int64)
    for place, (own, other) in enumerate(zip(detections, oracle, strict=True)):
        truth, found = (side.select(side.scores >= score) for side in (other, own))
        right = int((match(found, truth.boxes, truth.labels, iou=iou).truth_of >= 0).sum())
        counts[:, place] = right, len(found) - right, len(truth) - right
    return FrameCounts(*counts)


def disagreement(student: Detections, oracle: Detections) -> float:
    """1 - F1 of one frame, in [0, 1]: 0 where all boxes agree or neither side has one, 1 where no box is shared. See `f1_against`."""
    return 1.0 - f1_against([student], [oracle]).f1


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


@dataclass(frozen=True, eq=False)
class FrameRecall:
    """Annotated objects, and how many of them were found, of F frames in the manifest's order.

    keys: (path, frame index) of each frame. objects, found: (F,) int64. score: from which on a box counted.
    """

    keys: tuple[FrameKey, ...]
    objects: NDArray[np.int64]
    found: NDArray[np.int64]
    score: float
    of: ClassVar[str] = "videos"

    @property
    def counts(self) -> dict[str, float]:
        """Frames, objects in them, and the score."""
        return {"frames": len(self.keys), "objects": int(self.objects.sum()), "score": self.score}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Objects of each video (each path), and the share of them that was found."""
        paths = np.asarray([path for path, _ in self.keys])
        sums = {path: [int(each[paths == path].sum()) for each in (self.objects, self.found)] for path in dict.fromkeys(paths.tolist())}
        return [{"video": path, "objects": objects, "recall50": found / objects} for path, (objects, found) in sums.items()]

    def metrics(self) -> dict[str, float]:
        """recall50, in [0, 1], pooled over all objects, and recall50_video, the mean over videos (folders of images)."""
        of_videos = [row["recall50"] for row in self.rows]
        return {"recall50": int(self.found.sum()) / int(self.objects.sum()), "recall50_video": sum(of_videos) / len(of_videos)}


def of_frame(detections: Mapping[FrameKey, Detections], frame: LabelledFrame) -> Detections:
    """The detections of a frame. Raises DataError where it has no entry, which is no frame in which nothing was found."""
    if (found := detections.get(frame.key)) is None:
        place = frame.path if frame.frame_index is None else f"{frame.path}, frame {frame.frame_index}"
        raise DataError(f"no detections of: {place}", hint="file Detections.none() under (path, frame index) where nothing was found")
    return found


def recall_of(truth: BoxManifest, detections: Mapping[FrameKey, Detections], *, score: float = 0.0) -> FrameRecall:
    """How many annotated objects were found, by boxes of at least `score` that overlap them by IOU and have their class.

    Detections are filed under (path, frame index), see `of_frame`. Boxes of one frame with the same track id are one object with several
    names (a cyclist: "bicycle" or "person"), found under any of them. Ignored regions are nothing to find; frames with nothing to find are
    left out.
    Raises DataError for a frame without an entry, and if no frame is left.
    """
    frames = [frame for frame in truth.frames if not frame.ignore.all()]
    if not frames:
        raise DataError(f"data set '{truth.name}' has no frame with an object to find")
    counts = np.zeros((2, len(frames)), np.int64)
    for place, frame in enumerate(frames):
        found = of_frame(detections, frame)
        shown = found.select(found.scores >= score)
        matched = match(shown, frame.boxes, frame.labels, ignore=frame.ignore).truth_of
        objects = np.arange(len(frame)) if frame.track_ids is None else frame.track_ids
        counts[:, place] = len(np.unique(objects[~frame.ignore])), len(np.unique(objects[matched[matched >= 0]]))
    return FrameRecall(tuple(frame.key for frame in frames), counts[0], counts[1], score)


IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Detections of a class in a frame that count, best first."""
MOST_WEIGHTS = 2**24
"""Weights of detections in draws that are held in memory at once: 128 MiB."""
METRICS = ("ap50", "map", "ap75", "recall", "recall50")
"""map: mean over classes and IoU .50 to .95 in steps of .05. ap50, ap75: mean over classes at that IoU. recall: mean over classes and the
same IoUs of the share of boxes found by at most 100 detections of a class in a frame, whatever their score; recall50 at IoU .50.
"""


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """METRICS in `figures`, each in [0, 1], NaN where there is no box to find.

    rows: of each class its name, number of boxes, ap50, ap (map) and recall50, None where it has no box. counts: "frames" and "boxes" that
    were judged, boxes "ignored" as regions, frames "incomplete" and left out because objects may lack a box.
    """

    figures: Mapping[str, float]
    rows: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    of: ClassVar[str] = "classes"

    def metrics(self) -> dict[str, float]:
        """The figures, 0 where there was nothing to find."""
        return {name: float(np.nan_to_num(value)) for name, value in self.figures.items()}


def average_precision(truth: BoxManifest, detections: Mapping[FrameKey, Detections]) -> AveragePrecision:
    """Judge detections, filed under (path, frame index), on the frames of `truth` that are annotated completely.

    Labels of both index truth.classes. Ignored regions are crowds in COCO's sense: a detection that lies in one by the share of
    its own area that the IoU asks for counts neither way. At most 100 detections of a class in a frame count, best first. Detections of
    one class with equal scores go in the order of `truth`.
    Raises DataError for a frame without an entry (see `of_frame`), and if no frame is left.
    Source: the protocol of pycocotools, which tests compare it with (faster-coco-eval).
    """
    frames = tuple(frame for frame in truth.frames if frame.complete)
    if not frames:
        raise DataError(f"data set '{truth.name}' has no completely annotated frame", hint="judge it by recall")
    classes = _matched(dataclasses.replace(truth, frames=frames), detections)
    precision, recall = _curves(classes, np.ones((1, len(frames)), np.int64))
    boxes = [int(each.objects.sum()) for each in classes]
    columns = zip(truth.classes, boxes, precision[0, :, 0], precision[0].mean(axis=1), recall[0, :, 0], strict=True)
    return AveragePrecision(
        figures={name: float(values[0]) for name, values in _means(precision, recall).items()},
        rows=[
            {
                "class": name,
                "boxes": count,
                **{key: float(value) if count else None for key, value in zip(("ap50", "ap", "recall50"), of, strict=True)},
            }
            for name, count, *of in columns
        ],
        counts={
            "frames": len(frames),
            "boxes": sum(boxes),
            "ignored": sum(int(frame.ignore.sum()) for frame in frames),
            "incomplete": len(truth.frames) - len(frames),
        },
    )


def drawn_precision(
    truth: BoxManifest, detections: Mapping[FrameKey, Detections], times: NDArray[np.integer]
) -> dict[str, NDArray[np.float64]]:
    """METRICS as of `average_precision`, (D,) each in [0, 1]; NaN for a draw without a true box.

    times: (D, F), how often each draw holds each of the F frames of `truth`, which are all annotated completely.
    """
    return _means(*_curves(_matched(truth, detections), times))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Class:
    """The N detections of one class, best first, and its true boxes. frame_of: (N,) places of frames. right, wrong: (10, N) by IoU; neither
    where an ignored region excuses. objects: (F,) true boxes of each frame.
    """

    frame_of: NDArray[np.int64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    objects: NDArray[np.int64]


def _matched(truth: BoxManifest, detections: Mapping[FrameKey, Detections]) -> list[_Class]:
    """Every frame's detections matched at every IoU, by class."""
    parts = [best_of_each_class(of_frame(detections, frame)) for frame in truth.frames]
    frame_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    scores, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "labels"))
    matchings = [
        match_at_each(part, frame.boxes, frame.labels, IOUS, frame.ignore) for frame, part in zip(truth.frames, parts, strict=True)
    ]
    right = np.concatenate([each.truth_of >= 0 for each in matchings], axis=1)
    wrong = ~right & ~np.concatenate([each.neutral for each in matchings], axis=1)
    objects = np.stack([np.bincount(frame.labels[~frame.ignore], minlength=len(truth.classes)) for frame in truth.frames])
    found = []
    for label in range(len(truth.classes)):
        mine = np.flatnonzero(labels == label)
        mine = mine[np.argsort(-scores[mine], kind="stable")]
        found.append(_Class(frame_of=frame_of[mine], right=right[:, mine], wrong=wrong[:, mine], objects=objects[:, label]))
    return found


def best_of_each_class(detections: Detections) -> Detections:
    """At most MOST of each class, in the order given."""
    if len(detections) <= MOST:
        return detections
    order = np.argsort(-detections.scores, kind="stable")
    kept = np.concatenate([order[detections.labels[order] == label][:MOST] for label in np.unique(detections.labels)])
    return detections.select(np.sort(kept))


def _curves(classes: list[_Class], times: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average precision and final recall, (D, C, 10) each by draw, class and IoU; NaN for a class without a true box in the draw."""
    found = np.full((2, len(times), len(classes), len(IOUS)), np.nan)
    for place, each in enumerate(classes):
        for number, (right, wrong) in enumerate(zip(each.right, each.wrong, strict=True) if each.objects.any() else ()):
            counted = right | wrong
            found[:, :, place, number] = class_precision(times, each.frame_of[counted], right[counted], each.objects)
    return found[0], found[1]


def class_precision(
    times_DF: NDArray[np.number], frame_of: NDArray[np.integer], right: NDArray[np.bool_], objects: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(2, D) average precision of one class at one IoU, and the recall of all its detections, where each frame counts so many times.

    frame_of: (N,) the frame of each detection that counts, best first. right: (N,) whether it has a true box. objects: (F,) true boxes of
    each frame. NaN for a draw without a true box.
    Between two right boxes precision only falls, so the curve is known from its R right boxes, and boxes after the last add nothing.
    """
    chunk = max(1, MOST_WEIGHTS // max(1, len(frame_of)))
    if chunk < len(times_DF):
        parts = (times_DF[first : first + chunk] for first in range(0, len(times_DF), chunk))
        return np.concatenate([class_precision(part, frame_of, right, objects) for part in parts], axis=1)
    true_D = np.asarray(times_DF @ objects, np.float64)
    right_R = np.flatnonzero(right)
    if not len(right_R):
        return np.tile(np.where(true_D > 0, 0.0, np.nan), (2, 1))
    times_FD = np.ascontiguousarray(times_DF.T, np.float64)
    found_RD = times_FD[frame_of[right_R]].cumsum(axis=0)
    begins_R = np.concatenate([[0], right_R[:-1] + 1])
    shown_RD = np.add.reduceat(times_FD[frame_of[: right_R[-1] + 1]], begins_R, axis=0).cumsum(axis=0)
    best_RD = np.maximum.accumulate((found_RD / np.maximum(shown_RD, 1))[::-1], axis=0)[::-1]
    recall_RD = found_RD / np.maximum(true_D, 1)
    levels_RD = np.diff(np.searchsorted(RECALLS, recall_RD, side="right"), axis=0, prepend=0)
    precision_D = (best_RD * levels_RD).sum(axis=0) / len(RECALLS)
    return np.where(true_D > 0, [precision_D, recall_RD[-1]], np.nan)


def _means(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """METRICS of each draw: the mean over the classes that have a true box in it."""
    columns = (precision[:, :, 0], precision.mean(axis=2), precision[:, :, 5], recall.mean(axis=2), recall[:, :, 0])
    known = ~np.isnan(precision[:, :, 0])
    counts = known.sum(axis=1)
    unknown = np.where(counts > 0, 0.0, np.nan)
    return {
        name: np.where(known, each, 0.0).sum(axis=1) / np.maximum(counts, 1) + unknown for name, each in zip(METRICS, columns, strict=True)
    }
