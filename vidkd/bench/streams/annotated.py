"""What a method found on the annotated frames of a stream: kept small in its cell, judged by average precision and recall."""

import abc
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.bench.streams.bootstrap import Draws
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.metrics import match, recall_of
from vidkd.runtime.detections import Detections

IOUS = {"ap50": 0.5, "ap30": 0.3}
"""At .3 a box counts that lies on its object but not well: how much of a low AP50 is a matter of place."""
MOST = 100
"""Boxes of a class and frame that count, best first, as in COCO's protocol."""
NOTHING, NEUTRAL = -1, -2
"""In place of the true box that a detection was matched to: there is none; and an ignored region excuses that."""
PIXELS, SCORES = 100, 10_000
"""Boxes are judged in hundredths of a pixel, scores in ten thousandths."""
LEVELS = np.linspace(0, 1, 101)
Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Annotated:
    """Detections on A annotated frames of one stream, and what became of each.

    places: (A,) of the frames in the stream. complete: (A,) 1 where every object has its box. objects, found: (A,) as `FrameRecall`, of
    boxes from the study's score on. labels_true: (M,), true_at: (M,) frame, by place in `places`, of each true box that counts.
    counts: (A,) detections of each frame; scores: (N,) of SCORES, labels: (N,).
    ap50, ap30: (N,) the true box of the frame that each was matched to at that IoU, NOTHING or NEUTRAL.
    """

    places: Whole
    complete: Whole
    objects: Whole
    found: Whole
    labels_true: Whole
    true_at: Whole
    counts: Whole
    scores: Whole
    labels: Whole
    ap50: Whole
    ap30: Whole

    def between(self, first: int, stop: int) -> "Annotated":
        """Frames of the stream from first to stop - 1 alone."""
        kept = (self.places >= first) & (self.places < stop)
        shown, true = np.repeat(kept, self.counts), kept[self.true_at]
        of_frames = {name: getattr(self, name)[kept] for name in ("places", "complete", "objects", "found", "counts")}
        of_boxes = {name: getattr(self, name)[shown] for name in ("scores", "labels", *IOUS)}
        place = np.cumsum(kept) - 1
        return Annotated(**of_frames, **of_boxes, labels_true=self.labels_true[true], true_at=place[self.true_at[true]])

    def columns(self) -> dict[str, list[int]]:
        """The columns as lists, for a cell."""
        return {name: column.tolist() for name, column in vars(self).items()}

    @classmethod
    def of_columns(cls, content: Mapping[str, Any]) -> "Annotated":
        """From what `columns` gave."""
        return cls(**{name: np.asarray(values, np.int64) for name, values in content.items()})


def judged(truth: BoxManifest, found: Sequence[Detections], score: float) -> Annotated:
    """found: one entry a frame of the stream, labels of truth.classes; rounded as they are kept, then judged. score: of recall."""
    frames = truth.frames
    seen = [_rounded(found[frame.frame_index or 0]) for frame in frames]
    wanted = [~frame.ignore for frame in frames]
    return Annotated(
        places=_whole([frame.frame_index or 0 for frame in frames]),
        complete=_whole([frame.complete for frame in frames]),
        **_recall(truth, seen, score),
        labels_true=_joined([frame.labels[kept] for frame, kept in zip(frames, wanted, strict=True)]),
        true_at=np.repeat(np.arange(len(frames)), [int(kept.sum()) for kept in wanted]),
        counts=_whole([len(one) for one in seen]),
        scores=_joined([np.rint(one.scores * SCORES) for one in seen]),
        labels=_joined([one.labels for one in seen]),
        **{name: _joined([_matched(frame, one, iou) for frame, one in zip(frames, seen, strict=True)]) for name, iou in IOUS.items()},
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _OnAnnotated(abc.ABC):
    """A figure of one method with one seed on annotated frames of a stream; as `Measured`."""

    seed: int
    stream: str
    judged: Annotated

    def __len__(self) -> int:
        return len(self.judged.places)

    @property
    def spacing(self) -> float:
        """Frames of the stream from one annotated frame to the next."""
        places = self.judged.places
        return float(np.median(np.diff(places))) if len(places) > 1 else 1.0

    @property
    def value(self) -> float:
        """In [0, 1]; NaN where nothing is to be found."""
        return float(self.of_frames(np.ones((1, len(self))))[0])

    @abc.abstractmethod
    def of_frames(self, times_DA: Draws) -> Draws:
        """(D,) the same where each frame counts so many times."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamPrecision(_OnAnnotated):
    """Average precision in the protocol of COCO, the mean over classes that have a true box. metric: of IOUS.

    What came of draws is kept, for every comparison asks for the same ones.
    """

    metric: str

    def of_frames(self, times_DA: Draws) -> Draws:
        """(D,) the same where each frame counts so many times."""
        key = hashlib.sha256(np.ascontiguousarray(times_DA).data).digest()
        if key not in self._kept:
            self._kept[key] = self._of_frames(times_DA)
        return self._kept[key]

    def _of_frames(self, times_DA: Draws) -> Draws:
        values = np.full((len(self._classes), len(times_DA)), np.nan)
        for row, one in enumerate(self._classes):
            values[row] = one.of_frames(times_DA)
        known = ~np.isnan(values)
        whole = known.sum(axis=0)
        return np.asarray(np.divide(np.where(known, values, 0).sum(axis=0), whole, out=np.full(len(times_DA), np.nan), where=whole > 0))

    @functools.cached_property
    def _kept(self) -> dict[bytes, Draws]:
        return {}

    @functools.cached_property
    def _classes(self) -> "list[_Curve]":
        return [_Curve(self.judged, label, self.metric) for label in np.unique(self.judged.labels_true).tolist()]


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamRecall(_OnAnnotated):
    """Recall, as `recall_of`."""

    def of_frames(self, times_DA: Draws) -> Draws:
        """(D,) the same where each frame counts so many times."""
        found, objects = times_DA @ self.judged.found, times_DA @ self.judged.objects
        return np.asarray(np.divide(found, objects, out=np.full(len(times_DA), np.nan), where=objects > 0))


class _Curve:
    """Precision and recall of one class, as numbers of each frame, so that frames can be counted any number of times.

    Between two right boxes precision only falls, so the curve is known from its T right boxes, and boxes after the last say nothing.
    """

    def __init__(self, judged: Annotated, label: int, metric: str) -> None:
        matched, frames = getattr(judged, metric), len(judged.places)
        at = np.repeat(np.arange(frames), judged.counts)
        own = np.flatnonzero((judged.labels == label) & (matched != NEUTRAL))
        own = own[np.argsort(-judged.scores[own], kind="stable")]
        right = np.flatnonzero(matched[own] >= 0)
        self._right_T = at[own[right]]
        self._shown_N = at[own[: right[-1] + 1]] if len(right) else at[:0]
        self._begins_T = np.concatenate([[0], right[:-1] + 1]).astype(np.int64)
        self._true_A = np.bincount(judged.true_at[judged.labels_true == label], minlength=frames).astype(np.float64)

    def of_frames(self, times_DA: Draws) -> Draws:
        true = times_DA @ self._true_A
        if not len(self._right_T):
            return np.where(true > 0, 0.0, np.nan)
        times_AD = np.ascontiguousarray(times_DA.T)
        right = times_AD[self._right_T].cumsum(axis=0)
        shown = np.add.reduceat(times_AD[self._shown_N], self._begins_T, axis=0).cumsum(axis=0)
        precision = np.divide(right, shown, out=np.zeros_like(right), where=shown > 0)
        best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        recall = np.divide(right, true, out=np.zeros_like(right), where=true > 0)
        levels = np.diff(np.searchsorted(LEVELS, recall, side="right"), axis=0, prepend=0)
        return np.where(true > 0, (best * levels).sum(axis=0) / len(LEVELS), np.nan)


def _recall(truth: BoxManifest, seen: Sequence[Detections], score: float) -> dict[str, Whole]:
    objects, found = np.zeros((2, len(seen)), np.int64)
    if not all(frame.ignore.all() for frame in truth.frames):
        result = recall_of(truth, {frame.key: one for frame, one in zip(truth.frames, seen, strict=True)}, score=score)
        places = {frame.key: place for place, frame in enumerate(truth.frames)}
        which = [places[key] for key in result.keys]
        objects[which], found[which] = result.objects, result.found
    return {"objects": objects, "found": found}


def _rounded(found: Detections) -> Detections:
    """The best MOST of each class, as they are kept."""
    order = np.argsort(-found.scores, kind="stable")
    kept = np.concatenate([np.zeros(0, np.int64), *(order[found.labels[order] == label][:MOST] for label in np.unique(found.labels))])
    found = found.select(np.sort(kept))
    parts = (found.boxes, PIXELS), (found.scores, SCORES)
    boxes, scores = ((np.rint(part.astype(np.float64) * scale) / scale).astype(np.float32) for part, scale in parts)
    return Detections(boxes=boxes, scores=scores, labels=found.labels)


def _matched(frame: LabelledFrame, found: Detections, iou: float) -> Whole:
    result = match(found, frame.boxes, frame.labels, iou=iou, ignore=frame.ignore)
    return np.where(result.neutral, NEUTRAL, result.truth_of)


def _whole(values: Sequence[int]) -> Whole:
    return np.asarray(values, np.int64)


def _joined(parts: Sequence[NDArray[Any]]) -> Whole:
    return np.concatenate([np.zeros(0, np.int64), *(np.asarray(part, np.int64).ravel() for part in parts)])
