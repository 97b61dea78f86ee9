"""What a detector finds in one frame: boxes, their overlap, non-maximum suppression, and their classes in the words of another detector."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections:
    """The boxes of one frame, in any order.

    boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the frame as decoded, x to the right and y down; the edges of a whole frame are 0, 0,
    width, height. scores: (N,) float32 in [0, 1]. labels: (N,) int64, indices into the detector's class names.
    frame_index counts decoded frames from 0; time_s is the frame's own timestamp, None where it has none.
    track_ids: (N,) int64, the same number for the same object along a video; None where nothing was tracked.
    Raises ValueError where the lengths or widths differ.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    frame_index: int = 0
    time_s: float | None = None
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float32).reshape(-1, 4))
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float32).reshape(-1))
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64).reshape(-1))
        if self.track_ids is not None:
            object.__setattr__(self, "track_ids", np.asarray(self.track_ids, np.int64).reshape(-1))
        lengths = {len(part) for part in (self.boxes, self.scores, self.labels, self.track_ids) if part is not None}
        if len(lengths) != 1:
            raise ValueError(f"boxes, scores, labels and track_ids differ in number: {sorted(lengths)}")

    @classmethod
    def none(cls, *, frame_index: int = 0, time_s: float | None = None) -> "Detections":
        """A frame in which nothing was found."""
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int64),
            frame_index=frame_index,
            time_s=time_s,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> "Detections":
        """Those of a mask (N,), or of indices in the order given."""
        ids = None if self.track_ids is None else self.track_ids[which]
        return dataclasses.replace(self, boxes=self.boxes[which], scores=self.scores[which], labels=self.labels[which], track_ids=ids)

    def at(self, frame_index: int, time_s: float | None) -> "Detections":
        """The same boxes as those of this frame."""
        return dataclasses.replace(self, frame_index=frame_index, time_s=time_s)

    def clipped(self, width: int, height: int) -> "Detections":
        """The boxes cut at the edges of a frame of this size."""
        edges = np.asarray([width, height, width, height], np.float32)
        return dataclasses.replace(self, boxes=self.boxes.clip(0, edges))


# Boxes resolved against each other at once: bounds the overlap matrix at BLOCK x N, however many candidates a low threshold lets through.
BLOCK = 256


def box_area(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Areas (N,) of boxes (N, 4) x1 y1 x2 y2; 0 where a box is turned inside out."""
    boxes = np.asarray(boxes, np.float64)
    return np.asarray((boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0))


def box_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union (N, M) in [0, 1] of boxes (N, 4) and (M, 4), x1 y1 x2 y2; 0 for two boxes without area."""
    first, second = np.asarray(first, np.float64).reshape(-1, 4), np.asarray(second, np.float64).reshape(-1, 4)
    width = np.minimum(first[:, None, 2], second[None, :, 2]) - np.maximum(first[:, None, 0], second[None, :, 0])
    height = np.minimum(first[:, None, 3], second[None, :, 3]) - np.maximum(first[:, None, 1], second[None, :, 1])
    shared = width.clip(0) * height.clip(0)
    union = box_area(first)[:, None] + box_area(second)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def nms(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    iou: float,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices of the boxes that stay, by falling score, equal scores in the order given.

    boxes: (N, 4) x1 y1 x2 y2. scores, labels: (N,). A box falls to a better one of its class with which it overlaps by more than `iou` in
    [0, 1].
    """
    boxes, labels = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(labels)
    order = np.argsort(-np.asarray(scores), kind="stable")
    stays = np.zeros(len(boxes), bool)
    for label in np.unique(labels):
        stays[_greedy(boxes, order[labels[order] == label], iou)] = True
    return np.asarray(order[stays[order]], np.int64)


def _greedy(boxes: NDArray[np.float64], left: NDArray[np.int64], iou: float) -> NDArray[np.int64]:
    """Those of `left`, best first, that no better one covers."""
    stays: list[NDArray[np.int64]] = []
    while len(left):
        block, left = left[:BLOCK], left[BLOCK:]
        block = block[_standing(box_iou(boxes[block], boxes[block]) > iou)]
        stays.append(block)
        left = left[~(box_iou(boxes[block], boxes[left]) > iou).any(0)]
    return np.concatenate(stays) if stays else left


def _standing(covers: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which are kept, when each kept one removes those after it that it covers."""
    kept = np.ones(len(covers), bool)
    for better in range(len(covers)):
        if kept[better]:
            kept[better + 1 :] &= ~covers[better, better + 1 :]
    return kept


UNKNOWN = -1


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassMapping:
    """labels: (number of source classes,) int64, the target's label of each, -1 where it has none.

    only_source, only_target: names that the other list lacks, in their order.
    """

    labels: NDArray[np.int64]
    only_source: tuple[str, ...]
    only_target: tuple[str, ...]

    def translate(self, detections: Detections) -> Detections:
        """The detections of the source with labels of the target; those of classes that it lacks are left out."""
        labels = self.labels[detections.labels]
        kept = detections.select(labels != UNKNOWN)
        return dataclasses.replace(kept, labels=labels[labels != UNKNOWN])


def map_classes(source: Sequence[str], target: Sequence[str], *, of: str = "two detectors") -> ClassMapping:
    """Match two lists of class names: those that are equal once case, underscores, hyphens and runs of spaces are levelled; no other guess.

    of: whose lists these are, for the message. Raises ConfigError if a list holds a name twice, once levelled, or if no name is in both.
    """
    places, known = _places(source), _places(target)
    labels = np.asarray([known.get(name, UNKNOWN) for name in places], np.int64)
    if not (labels != UNKNOWN).any():
        raise ConfigError(f"{of} have no class in common", first=_some(source), second=_some(target), hint="give both lists the same names")
    return ClassMapping(
        labels=labels,
        only_source=tuple(name for name, label in zip(source, labels, strict=True) if label == UNKNOWN),
        only_target=tuple(name for name, level in zip(target, known, strict=True) if level not in places),
    )


def _places(names: Sequence[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        if (level := _level(name)) in places:
            raise ConfigError(f"class names '{names[places[level]]}' and '{name}' are the same", hint="rename or remove one of them")
        places[level] = place
    return places


def _level(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
