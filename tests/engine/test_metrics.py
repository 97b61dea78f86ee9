"""Metrics against numbers worked out by hand."""

import math

import numpy as np
import pytest

from vidkd.engine.metrics import class_mean, classification_metrics, per_class, reliability, top_k

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]])
LABELS = np.array([0, 1, 1, 2])


@pytest.mark.parametrize(("k", "expected"), [(1, 0.5), (2, 0.75), (3, 1.0), (5, 1.0)])
def test_top_k(k: int, expected: float) -> None:
    assert top_k(PROBABILITIES, LABELS, k) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_not_judged(value: float) -> None:
    with pytest.raises(ValueError, match="a probability is not finite"):
        classification_metrics(np.where(PROBABILITIES > 0.65, value, PROBABILITIES), LABELS)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (2, 0.5), (3, 0.5), (4, 1.0)])
def test_ties_count_against_the_true_class(k: int, expected: float) -> None:
    probabilities = np.array([[0.25, 0.25, 0.25, 0.25], [0.4, 0.4, 0.1, 0.1]])
    assert top_k(probabilities, np.array([0, 1]), k) == expected


def test_the_class_mean_is_over_the_classes_that_have_clips() -> None:
    predicted, labels = np.array([0, 0, 1, 3, 3]), np.array([0, 0, 0, 3, 1])
    assert class_mean(predicted, labels) == pytest.approx((2 / 3 + 0 + 1) / 3)  # classes 0, 1, 3; no clip of class 2


def test_calibration_error_by_hand() -> None:
    # confidences 0.55, 0.58 lie in one of ten bins with half of them right, 0.95 in another, right
    probabilities = np.array([[0.55, 0.45], [0.42, 0.58], [0.05, 0.95]])
    labels = np.array([0, 0, 1])
    expected = 2 / 3 * abs(0.5 - 0.565) + 1 / 3 * abs(1 - 0.95)
    assert reliability(probabilities.max(1), probabilities.argmax(1) == labels, bins=10).error == pytest.approx(expected)


def test_reliability_by_hand() -> None:
    found = reliability(np.array([0.55, 0.95, 0.58, 1.0, 0.2]), np.array([1, 1, 0, 1, 0]), bins=5)
    assert found.number.tolist() == [0, 2, 4]
    assert found.clips.tolist() == [1, 2, 2]
    np.testing.assert_allclose(found.confidence, np.array([0.2, 0.565, 0.975]))
    np.testing.assert_allclose(found.accuracy, np.array([0.0, 0.5, 1.0]))
    assert found.error == pytest.approx((0.2 + 2 * 0.065 + 2 * 0.025) / 5)


def test_recall_and_precision_of_classes_and_none_where_undefined() -> None:
    rows = per_class(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 3]), ("a", "b", "c", "d"))
    assert [row["class"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["clips"] for row in rows] == [2, 1, 0, 1]
    assert [row["recall"] for row in rows] == [0.5, 1.0, None, 0.0]
    assert [row["precision"] for row in rows] == [1.0, pytest.approx(1 / 3), None, None]


def test_all_metrics_together() -> None:
    metrics = classification_metrics(PROBABILITIES, LABELS)
    assert metrics["top1"] == 0.5
    assert set(metrics) == {"top1", "class_mean", "ece", "nll"}
    assert metrics["class_mean"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert metrics["nll"] == pytest.approx(-(math.log(0.5) + math.log(0.6) + math.log(0.2) + math.log(0.25)) / 4)
    # bins of 1/15: 0.5 and 0.4, 0.6, 0.7 each alone
    assert metrics["ece"] == pytest.approx((0.5 + 0.4 + 0.7 + 0.4) / 4)
