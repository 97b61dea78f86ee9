"""Right, wrong and missed detections, kept frame by frame so that stretches of a stream can be drawn anew."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counted = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameCounts:
    """Counts of F frames in the order of the stream.

    frame_indices, true_positives, false_positives, false_negatives: (F,) int64. Pooled figures sum the counts over frames first.
    Raises ValueError where the lengths differ.
    """

    frame_indices: NDArray[np.int64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    false_negatives: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = {len(self.frame_indices), len(self.true_positives), len(self.false_positives), len(self.false_negatives)}
        if len(lengths) != 1:
            raise ValueError(f"counts of unlike numbers of frames: {sorted(lengths)}")

    @classmethod
    def of(cls, frame_indices: Sequence[int], counts: Sequence[tuple[int, int, int]]) -> "FrameCounts":
        """From a triple (true positives, false positives, false negatives) a frame."""
        table = np.asarray(counts, np.int64).reshape(-1, 3)
        return cls(
            frame_indices=np.asarray(frame_indices, np.int64),
            true_positives=table[:, 0],
            false_positives=table[:, 1],
            false_negatives=table[:, 2],
        )

    def __len__(self) -> int:
        return len(self.frame_indices)

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> "FrameCounts":
        """Those frames of a mask (F,), or at positions in the order given, repeats allowed: a bootstrap's draw."""
        return FrameCounts(
            frame_indices=self.frame_indices[which],
            true_positives=self.true_positives[which],
            false_positives=self.false_positives[which],
            false_negatives=self.false_negatives[which],
        )

    @property
    def precision(self) -> float:
        """Pooled share of the detections that are right, in [0, 1]; NaN if there is none."""
        right = int(self.true_positives.sum())
        return _share(right, right + int(self.false_positives.sum()))

    @property
    def recall(self) -> float:
        """Pooled share of the true boxes that were found, in [0, 1]; NaN if there is none."""
        right = int(self.true_positives.sum())
        return _share(right, right + int(self.false_negatives.sum()))

    @property
    def f1(self) -> float:
        """Pooled F1 in [0, 1], 2 TP / (2 TP + FP + FN); 1 where nothing is there and nothing was found."""
        return float(pooled_f1(self.true_positives.sum(), self.false_positives.sum(), self.false_negatives.sum()))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def pooled_f1(right: Counted, wrong: Counted, missed: Counted) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN), entry by entry of counts of one shape, in [0, 1]; 1 where nothing is there and nothing was found."""
    whole = np.asarray(2 * right + wrong + missed, np.float64)
    return np.asarray(np.divide(2.0 * right, whole, out=np.ones_like(whole), where=whole > 0))
