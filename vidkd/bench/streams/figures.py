"""Figures of a cell along a stream: F1 against the oracle on every frame, average precision and recall on annotated frames."""

import functools
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.bench.intervals import FEWEST_BLOCKS, Draws, Units
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.metrics import best_of_each_class, class_precision, match, pooled_f1, recall_of
from vidkd.runtime.detections import Detections

IOUS = {"ap50": 0.5, "ap30": 0.3}
"""At .3 a box counts that lies on its object but not well: how much of a low AP50 is a matter of place."""
NOTHING, NEUTRAL = -1, -2
"""In place of the true box that a detection was matched to: there is none; and an ignored region excuses that."""
PIXELS, SCORES = 100, 10_000
"""Boxes are judged in hundredths of a pixel, scores in ten thousandths."""
Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamFigure:
    """A figure of one method with one seed along one stream; `Measured` of `vidkd.bench.intervals`."""

    seed: int
    place: str
    off: Draws | None = None

    def __len__(self) -> int:
        """Frames that are counted."""
        raise NotImplementedError

    @property
    def spacing(self) -> float:
        """Frames of the stream from one that is counted to the next."""
        return 1.0

    @functools.cached_property
    def value(self) -> float:
        """In [0, 1]; NaN where nothing is to be found."""
        return float(self.work_out(np.ones((1, len(self))))[0])

    @property
    def judged_on(self) -> NDArray[Any]:
        """How many frames."""
        return np.asarray([len(self)])

    def units(self, block: int) -> Units:
        """Blocks of as many counted frames as `block` frames of the stream hold, fewer in a short stretch."""
        return Units(len(self), min(max(1, round(block / self.spacing)), max(1, len(self) // FEWEST_BLOCKS)))

    @functools.cached_property
    def _kept(self) -> dict[int, tuple[weakref.ref[Draws], Draws]]:
        return {}

    def of_draws(self, times_DU: Draws) -> Draws:
        """(D,) the figure where each frame counts so many times; kept as long as these draws are, for others ask for them too."""
        found = self._kept.get(id(times_DU))
        if found is None or found[0]() is not times_DU:
            found = self._kept[id(times_DU)] = weakref.ref(times_DU), self.work_out(times_DU)
        return found[1]

    def work_out(self, times_DU: Draws) -> Draws:
        """(D,) the figure of each draw."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamCounts(StreamFigure):
    """F1 pooled over frames, 1 where nothing is there and nothing was found. counts_FN: right, wrong and missed boxes of each frame."""

    counts_FN: Draws  # noqa: N815 - the axes

    @classmethod
    def of(cls, cell: Mapping[str, Any]) -> "StreamCounts":
        """Of a cell's content."""
        counts = np.stack([cell["counts"][name] for name in ("right", "wrong", "missed")], axis=1)
        return cls(seed=cell["seed"], place=cell["place"], counts_FN=counts.astype(np.float64))

    def __len__(self) -> int:
        """Every frame."""
        return len(self.counts_FN)

    def work_out(self, times_DU: Draws) -> Draws:
        """(D,) F1; counts are whole numbers, which are exact in any order."""
        return pooled_f1(*(times_DU @ self.counts_FN).T)

    def between(self, first: int, stop: int) -> "StreamCounts":
        """Frames first to stop - 1."""
        return StreamCounts(seed=self.seed, place=self.place, counts_FN=self.counts_FN[first:stop])


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
        """Frames of the stream from first to stop - 1."""
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


@dataclass(frozen=True, eq=False, kw_only=True)
class OnAnnotated(StreamFigure):
    """Of annotated frames: recall, as `recall_of`, or average precision in the protocol of COCO, the mean over classes with a true box."""

    judged: Annotated
    metric: str

    def __len__(self) -> int:
        """Annotated frames."""
        return len(self.judged.places)

    @property
    def spacing(self) -> float:
        """The median."""
        places = self.judged.places
        return float(np.median(np.diff(places))) if len(places) > 1 else 1.0

    def work_out(self, times_DU: Draws) -> Draws:
        """(D,) the figure, NaN where nothing is to be found."""
        if self.metric == "recall":
            return _ratio(times_DU @ self.judged.found, times_DU @ self.judged.objects)
        classes = np.unique(self.judged.labels_true).tolist()
        values = np.stack([np.full(len(times_DU), np.nan), *(self._of_class(one, times_DU) for one in classes)])
        known = ~np.isnan(values)
        return _ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))

    def _of_class(self, label: int, times_DU: Draws) -> Draws:
        judged, matched = self.judged, getattr(self.judged, self.metric)
        own = np.flatnonzero((judged.labels == label) & (matched != NEUTRAL))
        own = own[np.argsort(-judged.scores[own], kind="stable")]
        frame_of = np.repeat(np.arange(len(self)), judged.counts)[own]
        objects = np.bincount(judged.true_at[judged.labels_true == label], minlength=len(self))
        precision_D, _ = class_precision(times_DU, frame_of, np.asarray(matched[own] >= 0), objects)
        return np.asarray(precision_D)


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Draws:
    """A quotient, NaN where the denominator is 0."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0))


def judged(truth: BoxManifest, found: Sequence[Detections], score: float) -> Annotated:
    """found: one entry a frame of the stream, labels of truth.classes; rounded as they are kept, then judged. score: of recall."""
    frames = truth.frames
    seen = [_rounded(found[frame.frame_index or 0]) for frame in frames]
    wanted = [~frame.ignore for frame in frames]
    return Annotated(
        places=_joined([frame.frame_index or 0 for frame in frames]),
        complete=_joined([frame.complete for frame in frames]),
        **_recall(truth, seen, score),
        labels_true=_joined([frame.labels[kept] for frame, kept in zip(frames, wanted, strict=True)]),
        true_at=np.repeat(np.arange(len(frames)), [int(kept.sum()) for kept in wanted]),
        counts=_joined([len(one) for one in seen]),
        scores=_joined([np.rint(one.scores * SCORES) for one in seen]),
        labels=_joined([one.labels for one in seen]),
        **{name: _joined([_matched(frame, one, iou) for frame, one in zip(frames, seen, strict=True)]) for name, iou in IOUS.items()},
    )


def _recall(truth: BoxManifest, seen: Sequence[Detections], score: float) -> dict[str, Whole]:
    objects, found = np.zeros((2, len(seen)), np.int64)
    if not all(frame.ignore.all() for frame in truth.frames):
        result = recall_of(truth, {frame.key: one for frame, one in zip(truth.frames, seen, strict=True)}, score=score)
        which = np.flatnonzero([frame.key in set(result.keys) for frame in truth.frames])
        objects[which], found[which] = result.objects, result.found
    return {"objects": objects, "found": found}


def _rounded(found: Detections) -> Detections:
    """Those that count, as they are kept."""
    found = best_of_each_class(found)
    parts = (found.boxes, PIXELS), (found.scores, SCORES)
    boxes, scores = ((np.rint(part.astype(np.float64) * scale) / scale).astype(np.float32) for part, scale in parts)
    return Detections(boxes=boxes, scores=scores, labels=found.labels)


def _matched(frame: LabelledFrame, found: Detections, iou: float) -> Whole:
    result = match(found, frame.boxes, frame.labels, iou=iou, ignore=frame.ignore)
    return np.where(result.neutral, NEUTRAL, result.truth_of)


def _joined(parts: Sequence[Any]) -> Whole:
    return np.concatenate([np.zeros(0, np.int64), *(np.atleast_1d(np.asarray(part, np.int64)) for part in parts)])
