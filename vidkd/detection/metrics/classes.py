"""Labels of one list of classes in terms of another: by name, what has no counterpart named."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.runtime.detections import Detections

# what VOC and YouTube-Objects call it -> what COCO calls it
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassMap:
    """From labels of one list to labels of another; build it with `class_map`.

    labels: (N,) int64, for every class of the first list its index in the second, -1 for none. only_first, only_second: names without a
    counterpart.
    """

    labels: NDArray[np.int64]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def __call__(self, detections: Detections) -> Detections:
        """The detections with labels of the second list, without those of classes that it lacks. IndexError for a label out of range."""
        mapped = self.labels[detections.labels]
        kept = detections.select(mapped >= 0)
        return Detections(
            boxes=kept.boxes,
            scores=kept.scores,
            labels=mapped[mapped >= 0],
            frame_index=kept.frame_index,
            time_s=kept.time_s,
            track_ids=kept.track_ids,
        )


def class_map(first: Sequence[str], second: Sequence[str]) -> ClassMap:
    """Match two lists of class names, whatever their case, and VOC's names to COCO's (`COCO_NAMES`)."""
    places = {_plain(name): place for place, name in enumerate(second)}
    labels = np.asarray([places.get(_plain(name), -1) for name in first], np.int64)
    return ClassMap(
        labels=labels,
        only_first=tuple(name for name, label in zip(first, labels, strict=True) if label < 0),
        only_second=tuple(name for place, name in enumerate(second) if place not in labels),
    )


def _plain(name: str) -> str:
    lower = name.strip().lower()
    return COCO_NAMES.get(lower, lower)
