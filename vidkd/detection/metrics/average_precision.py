"""Mean average precision over annotated frames in the protocol of COCO, once, or for many bootstrap draws of the same frames."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.extras import require
from vidkd.detection.annotations import ANY_CLASS, BoxManifest, FrameKey, LabelledFrame
from vidkd.detection.metrics.matching import found_in, match
from vidkd.runtime.detections import Detections


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """Average precision and recall, each in [0, 1]; None where no annotated box could be found.

    map: mean over classes and IoU .50 to .95 in steps of .05. ap50, ap75: mean over classes at that IoU. recall: mean over classes and the
    same IoUs of the share of boxes found by at most 100 detections of a class in a frame, whatever their score; recall50 at IoU .50.
    By class: only classes with a box that counts. frames, boxes: what was judged; ignored: boxes that were regions to ignore.
    unannotated: frames with detections that the truth does not know, left out. incomplete: frames left out because objects may lack a box.
    """

    map: float | None
    ap50: float | None
    ap75: float | None
    recall: float | None
    recall50: float | None
    ap_by_class: Mapping[str, float]
    ap50_by_class: Mapping[str, float]
    recall50_by_class: Mapping[str, float]
    frames: int
    boxes: int
    ignored: int
    unannotated: int
    incomplete: int


def average_precision(truth: BoxManifest, detections: Mapping[FrameKey, Detections]) -> AveragePrecision:
    """Judge detections, filed under (path, frame index), on the frames of `truth` that are annotated completely.

    Labels of both index truth.classes. Ignored regions are crowds in COCO's sense: a detection that lies in one by the share of
    its own area that the IoU asks for counts neither way. At most 100 detections of a class in a frame count, best first.
    Raises ValueError for a frame without an entry (found nothing is an empty `Detections`) or a label out of range, DataError if no frame
    is left, MissingExtraError without the extra [detect]. Source: torchmetrics' MeanAveragePrecision on faster-coco-eval.
    """
    frames = [frame for frame in truth.frames if frame.complete]
    if not frames:
        raise DataError(f"data set '{truth.name}' has no completely annotated frame", hint="judge it by recall_of")
    pairs = [(frame, found_in(frame, detections, len(truth.classes))) for frame in frames]
    ignored = sum(int(frame.ignore.sum()) for frame in frames)
    boxes = sum(len(frame) for frame in frames) - ignored
    return AveragePrecision(
        **(_figures(pairs, truth.classes) if boxes else _NOTHING_TO_FIND),
        frames=len(frames),
        boxes=boxes,
        ignored=ignored,
        unannotated=len(set(detections) - {frame.key for frame in truth.frames}),
        incomplete=len(truth.frames) - len(frames),
    )


_NOTHING_TO_FIND: dict[str, Any] = {
    **dict.fromkeys(("map", "ap50", "ap75", "recall", "recall50")),
    **{name: {} for name in ("ap_by_class", "ap50_by_class", "recall50_by_class")},
}


def _figures(pairs: Sequence[tuple[LabelledFrame, Detections]], classes: Sequence[str]) -> dict[str, Any]:
    require("faster_coco_eval", "detect")
    metric = require("torchmetrics.detection.mean_ap", "detect").MeanAveragePrecision(
        backend="faster_coco_eval",
        extended_summary=True,
        # its own are rounded to float32, by which a box that overlaps by exactly .6 misses the threshold .6000000238
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    metric.warn_on_many_detections = False  # that the best 100 count is what COCO's protocol says
    metric.update([_found(found) for _, found in pairs], [_true(frame, found) for frame, found in pairs])
    with _quiet("faster_coco_eval"):
        result = metric.compute()
    names = [classes[label] for label in result["classes"].reshape(-1).tolist()]
    # (IoU, recall level, class, area, most detections) and the same without the level; area 0 is all sizes, the last most is 100
    precision, recall = result["precision"][..., 0, -1].numpy(), result["recall"][..., 0, -1].numpy()
    return {
        "map": _known(float(result["map"])),
        "ap50": _known(float(result["map_50"])),
        "ap75": _known(float(result["map_75"])),
        "recall": _known(float(result["mar_100"])),
        "recall50": _mean(recall[0]),
        "ap_by_class": _by_class(names, precision),
        "ap50_by_class": _by_class(names, precision[:1]),
        "recall50_by_class": _by_class(names, recall[:1]),
    }


@contextlib.contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Without what a library logs below warnings: here the table of every evaluation."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _by_class(names: Sequence[str], values: NDArray[np.floating]) -> dict[str, float]:
    """The mean of each class over everything else; the class is the last axis. Classes without a true box are left out."""
    means = {name: _mean(values[..., place]) for place, name in enumerate(names)}
    return {name: mean for name, mean in means.items() if mean is not None}


def _mean(values: NDArray[np.floating]) -> float | None:
    """Mean of what is known; COCO's evaluation writes -1 for a class without a true box."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _known(value: float) -> float | None:
    return None if value < 0 else value


def _found(detections: Detections) -> dict[str, Any]:
    import torch

    return {
        "boxes": torch.from_numpy(detections.boxes.copy()),
        "scores": torch.from_numpy(detections.scores.copy()),
        "labels": torch.from_numpy(detections.labels.copy()),
    }


def _true(frame: LabelledFrame, detections: Detections) -> dict[str, Any]:
    """A frame's boxes; a region that hides every class is repeated for each class that was found in the frame."""
    import torch

    general = frame.labels == ANY_CLASS
    wanted = np.unique(detections.labels)
    boxes = [frame.boxes[~general], *([box] * len(wanted) for box in frame.boxes[general])]
    labels = [frame.labels[~general], *(wanted for _ in range(int(general.sum())))]
    crowds = [frame.ignore[~general], np.ones(len(wanted) * int(general.sum()), bool)]
    return {
        "boxes": torch.from_numpy(np.concatenate([np.reshape(part, (-1, 4)) for part in boxes]).astype(np.float32)),
        "labels": torch.from_numpy(np.concatenate(labels)),
        "iscrowd": torch.from_numpy(np.concatenate(crowds).astype(np.int64)),
    }


IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Detections of a class in a frame that count."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Class:
    """The N detections of one class, best first, and its true boxes. frame_of: (N,) places of frames. right, wrong: (10, N) by IoU; neither
    where an ignored region excuses. objects: (F,) true boxes of each frame.
    """

    frame_of: NDArray[np.int64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    objects: NDArray[np.int64]


def drawn_precision(
    truth: BoxManifest, detections: Mapping[FrameKey, Detections], times: NDArray[np.integer]
) -> dict[str, NDArray[np.float64]]:
    """ap50, map, ap75, recall and recall50 as of `average_precision`, (D,) each in [0, 1]; NaN for a draw without a true box.

    times: (D, F), how often each draw holds each of the F frames of `truth`, which are all annotated completely. Detections of one class
    with equal scores go in the order of `truth`.
    Raises ValueError for another width of `times`, and as `average_precision` does.
    """
    if times.ndim != 2 or times.shape[1] != len(truth.frames):
        raise ValueError(f"times must be (draws, {len(truth.frames)}), not {times.shape}")
    classes = _matched(truth, detections)
    precision = np.full((len(times), len(classes), len(IOUS)), np.nan)
    recall = precision.copy()
    for draw, counts in enumerate(times):
        for place, each in enumerate(classes):
            objects = int(counts @ each.objects)
            if objects:
                precision[draw, place], recall[draw, place] = _of_class(each, counts, objects)
    return {
        "ap50": _mean_of_classes(precision[:, :, 0]),
        "map": _mean_of_classes(precision.mean(axis=2)),
        "ap75": _mean_of_classes(precision[:, :, 5]),
        "recall": _mean_of_classes(recall.mean(axis=2)),
        "recall50": _mean_of_classes(recall[:, :, 0]),
    }


def _mean_of_classes(values_DC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the classes that have a true box in a draw; NaN where none has."""
    known = ~np.isnan(values_DC)
    sums, counts = np.where(known, values_DC, 0.0).sum(axis=1), known.sum(axis=1)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(values_DC), np.nan), where=counts > 0)
    return means


def _of_class(each: _Class, counts: NDArray[np.integer], objects: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average precision and final recall at each IoU, (10,) both. A detection counts as often as its frame was drawn."""
    weights = counts[each.frame_of]
    right, wrong = (each.right * weights).cumsum(axis=1), (each.wrong * weights).cumsum(axis=1)
    if not right.shape[1]:
        return np.zeros(len(IOUS)), np.zeros(len(IOUS))
    recall = right / objects
    precision = right / np.maximum(right + wrong, 1)
    best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    found = np.zeros(len(IOUS))
    for place, (levels, best) in enumerate(zip(recall, best_from_here, strict=True)):
        first = np.searchsorted(levels, RECALLS)
        reached = first < len(levels)
        found[place] = best[first[reached]].sum() / len(RECALLS)
    return found, recall[:, -1]


def _matched(truth: BoxManifest, detections: Mapping[FrameKey, Detections]) -> list[_Class]:
    """Every frame's detections matched at every IoU, by class."""
    frames, parts = len(truth.frames), [_best(found_in(frame, detections, len(truth.classes))) for frame in truth.frames]
    frame_of = np.repeat(np.arange(frames), [len(part) for part in parts])
    scores, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "labels"))
    rows = [_verdicts(frame, part) for frame, part in zip(truth.frames, parts, strict=True)]
    right, wrong = (np.concatenate([row[kind] for row in rows], axis=1) for kind in (0, 1))
    objects = np.stack([np.bincount(frame.labels[~frame.ignore], minlength=len(truth.classes)) for frame in truth.frames])
    found = []
    for label in range(len(truth.classes)):
        mine = np.flatnonzero(labels == label)
        mine = mine[np.argsort(-scores[mine], kind="stable")]
        found.append(_Class(frame_of=frame_of[mine], right=right[:, mine], wrong=wrong[:, mine], objects=objects[:, label]))
    return found


def _best(detections: Detections) -> Detections:
    """At most MOST of each class, in the order given."""
    if len(detections) <= MOST:
        return detections
    order = np.argsort(-detections.scores, kind="stable")
    kept = np.concatenate([order[detections.labels[order] == label][:MOST] for label in np.unique(detections.labels)])
    return detections.select(np.sort(kept))


def _verdicts(frame: LabelledFrame, detections: Detections) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(10, N): which detections are right at each IoU, and which are wrong."""
    matchings = [match(detections, frame.boxes, frame.labels, iou=float(iou), ignore=frame.ignore) for iou in IOUS]
    right = np.stack([each.truth_of >= 0 for each in matchings])
    return right, ~right & ~np.stack([each.neutral for each in matchings])
