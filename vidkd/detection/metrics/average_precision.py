"""Mean average precision over annotated frames, in the protocol of COCO."""

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


def found_in(frame: LabelledFrame, detections: Mapping[FrameKey, Detections], classes: int) -> Detections:
    """The entry of a frame; ValueError if there is none, or if its labels are out of range."""
    found = detections.get(frame.key)
    if found is None:
        raise ValueError(f"no detections of frame {frame.key}; where nothing was found, say so with Detections.none()")
    if len(found) and not 0 <= found.labels.min() <= found.labels.max() < classes:
        raise ValueError(f"labels of frame {frame.key} are out of range 0 to {classes - 1}")
    return found


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
    """A frame's boxes; a region that hides every class stands once for each class that was found in the frame."""
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
