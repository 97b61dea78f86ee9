"""How good predictions are: accuracies, calibration, confusion; numpy only."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def classification_metrics(probabilities: Floats, labels: Ints) -> dict[str, float]:
    """top1, top5, class_mean, nll and calibration error ("ece", 15 equal bins) of (N, K) probabilities, all but nll in [0, 1].

    labels: (N,) in 0..K-1. Raises ValueError if there is nothing to judge.
    """
    if len(labels) == 0:
        raise ValueError("no labelled clips to judge")
    truth = probabilities[np.arange(len(labels)), labels]
    return {
        "top1": float((probabilities.argmax(1) == labels).mean()),
        "top5": top_k(probabilities, labels, 5),
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
    """Expected calibration error: mean gap of confidence and accuracy over equal bins of confidence, weighted by clips.

    Source: Guo et al. 2017 (arXiv 1706.04599), eq. 3.
    """
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = [abs(correct[bin_of == b].mean() - confidence[bin_of == b].mean()) * (bin_of == b).mean() for b in np.unique(bin_of)]
    return float(sum(gaps))


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
