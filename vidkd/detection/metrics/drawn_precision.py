"""Average precision of many draws of the same frames, for a bootstrap: matched once, then counted by how often each frame was drawn."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.detection.annotations import BoxManifest, FrameKey, LabelledFrame
from vidkd.detection.metrics.average_precision import found_in
from vidkd.detection.metrics.matching import match
from vidkd.runtime.detections import Detections

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
    """ap50, map, ap75, recall and recall50 as `average_precision` tells them, (D,) each in [0, 1]; NaN for a draw without a true box.

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
        "ap50": _mean(precision[:, :, 0]),
        "map": _mean(precision.mean(axis=2)),
        "ap75": _mean(precision[:, :, 5]),
        "recall": _mean(recall.mean(axis=2)),
        "recall50": _mean(recall[:, :, 0]),
    }


def _mean(values_DC: NDArray[np.float64]) -> NDArray[np.float64]:
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
