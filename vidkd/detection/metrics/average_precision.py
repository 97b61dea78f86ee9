"""Mean average precision over annotated frames in the protocol of COCO, once, or for many bootstrap draws of the same frames."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.detection.annotations import BoxManifest, FrameKey
from vidkd.detection.metrics.matching import match_at_each, of_frame
from vidkd.runtime.detections import Detections

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
