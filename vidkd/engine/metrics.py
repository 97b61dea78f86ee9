"""How good predictions are: accuracies, calibration, confusion; numpy only."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def classification_metrics(probabilities: Floats, labels: Ints) -> dict[str, float]:
    """top1, top5, class_mean, nll and calibration error ("ece", 15 equal bins) of (N, K) probabilities, all but nll in [0, 1].

    top5 is left out where there are no more than five classes: it would always be 1.
    labels: (N,) in 0..K-1. Raises ValueError if there is nothing to judge, or a probability is not finite.
    """
    if len(labels) == 0:
        raise ValueError("no labelled clips to judge")
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not finite")
    truth = probabilities[np.arange(len(labels)), labels]
    return {
        "top1": float((probabilities.argmax(1) == labels).mean()),
        **({"top5": top_k(probabilities, labels, 5)} if probabilities.shape[1] > 5 else {}),
        "class_mean": class_mean(probabilities.argmax(1), labels),
        "ece": calibration_error(probabilities, labels),
        "nll": float(-np.log(np.maximum(truth, 1e-12)).mean()),
    }


def top_k(probabilities: Floats, labels: Ints, k: int) -> float:
    """Share of clips whose true class is among the k most probable; ties count against the true class."""
    truth = probabilities[np.arange(len(labels)), labels][:, None]
    ahead = (probabilities >= truth).sum(1) - 1
    return float((ahead < k).mean())


def class_mean(predicted: Ints, labels: Ints) -> float:
    """Mean of the classes' accuracies, over the classes that have clips."""
    return float(np.mean([(predicted[labels == name] == name).mean() for name in np.unique(labels)]))


def calibration_error(probabilities: Floats, labels: Ints, bins: int = 15) -> float:
    """Expected calibration error of (N, K) probabilities, see Reliability.error."""
    return reliability(probabilities.max(1), probabilities.argmax(1) == labels, bins).error


class Reliability(NamedTuple):
    """The bins of confidence that hold clips, each (M,): number in 0..bins-1, clips, mean confidence and accuracy."""

    number: Ints
    clips: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap of confidence and accuracy over the bins, weighted by clips.

        Source: Guo et al. 2017 (arXiv 1706.04599), eq. 3.
        """
        return float((np.abs(self.accuracy - self.confidence) * self.clips).sum() / self.clips.sum())


def reliability(confidence: Floats, correct: NDArray[np.generic], bins: int = 15) -> Reliability:
    """Clips in equal bins of confidence, each closed above.

    confidence: (N,) probability of the predicted class in [0, 1]; correct: (N,) 0 or 1.
    """
    bin_N = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts, trust, hits = (np.bincount(bin_N, weights=weights, minlength=bins) for weights in (None, confidence, correct))
    number = np.flatnonzero(counts)
    clips = counts[number]
    return Reliability(number, clips, trust[number] / clips, hits[number] / clips)


def confusion_matrix(predicted: Ints, labels: Ints, classes: int) -> Ints:
    """(K, K) counts, row = true class, column = predicted class."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def per_class(predicted: Ints, labels: Ints, names: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """For every class its clips, recall and precision (None where undefined)."""
    matrix = confusion_matrix(predicted, labels, len(names))
    rows: list[Mapping[str, Any]] = []
    for number, name in enumerate(names):
        clips, hits, named = int(matrix[number].sum()), int(matrix[number, number]), int(matrix[:, number].sum())
        rows.append(
            {"class": name, "clips": clips, "recall": hits / clips if clips else None, "precision": hits / named if named else None}
        )
    return rows
