"""Recall on footage where not every object has a box, so that a detection without one says nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.detection.annotations import BoxManifest, FrameKey, LabelledFrame
from vidkd.detection.metrics.average_precision import found_in
from vidkd.detection.metrics.matching import match
from vidkd.runtime.detections import Detections


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
        """Recall of each video (each path) alone."""
        paths = np.asarray([path for path, _ in self.keys])
        masks = {path: paths == path for path in dict.fromkeys(paths.tolist())}
        return {path: int(self.found[mask].sum()) / int(self.objects[mask].sum()) for path, mask in masks.items()}


def recall_of(
    truth: BoxManifest, detections: Mapping[FrameKey, Detections], *, iou: float = 0.5, score: float = 0.0, class_aware: bool = True
) -> FrameRecall:
    """How many annotated objects were found, by boxes of at least `score` that overlap them by `iou` and, if class_aware, have their class.

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
        counts.append(_objects(frame, found.select(found.scores >= score), iou, class_aware))
    table = np.asarray(counts, np.int64)
    return FrameRecall(keys=tuple(frame.key for frame in frames), objects=table[:, 0], found=table[:, 1])


def _objects(frame: LabelledFrame, detections: Detections, iou: float, class_aware: bool) -> tuple[int, int]:
    """(Objects, found ones) of a frame."""
    result = match(detections, frame.boxes, frame.labels, iou=iou, ignore=frame.ignore, class_aware=class_aware)
    names = np.arange(len(frame)) if frame.track_ids is None else frame.track_ids
    return len(np.unique(names[result.scored])), len(np.unique(names[result.found]))
