"""Accuracies, calibration, per-class figures and recalls by hand."""

import math

import numpy as np
import pytest

from vidkd.data.manifest import Clip
from vidkd.engine.metrics import anticipation_recalls, class_mean, class_mean_recall, classification_metrics, per_class, reliability, top_k

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


SCORES = np.array(
    [
        [0.5, 0.3, 0.2, 0.0],  # class 0, first
        [0.1, 0.6, 0.3, 0.0],  # class 0, third
        [0.2, 0.3, 0.5, 0.0],  # class 0, third
        [0.4, 0.5, 0.1, 0.0],  # class 1, first
        [0.6, 0.3, 0.1, 0.0],  # class 2, third
    ]
)
OF_SCORES = np.array([0, 0, 0, 1, 2])


@pytest.mark.parametrize(("k", "expected"), [(1, (1 / 3 + 1 + 0) / 3), (2, (1 / 3 + 1 + 0) / 3), (3, 1.0), (5, 1.0)])
def test_by_hand(k: int, expected: float) -> None:
    """Class 3 has no sample and is no part of the mean."""
    assert class_mean_recall(SCORES, OF_SCORES, k) == pytest.approx(expected)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (2, 0.0), (3, 0.5), (4, 1.0)])
def test_ties_count_against_the_true_class_in_recall(k: int, expected: float) -> None:
    scores = np.array([[0.25, 0.25, 0.25, 0.25], [0.3, 0.3, 0.3, 0.1]])
    assert class_mean_recall(scores, np.array([0, 1]), k) == expected


@pytest.mark.parametrize(("missed", "expected"), [([], 4 / 9), ([1], 5 / 18), ([3], 1 / 3), ([0, 3, 3], (1 / 4 + 1 + 0 + 0) / 4)])
def test_what_nobody_saw_is_a_miss(missed: list[int], expected: float) -> None:
    """Of class 0 one of three is found first, of 1 the only one, of 2 none; class 3 has no other sample."""
    assert class_mean_recall(SCORES, OF_SCORES, 1, missed=missed) == pytest.approx(expected)


def clip(label: int | None, verb: int | None, *tags: str) -> Clip:
    return Clip(path="a.avi", label=label, group="g", subsets={}, targets={} if verb is None else {"verb": verb}, tags=tags)


CLIPS = [
    clip(0, 0),
    clip(0, 0, "unseen"),
    clip(1, 1, "unseen", "tail"),
    clip(2, 1, "tail", "tail_verb"),
    clip(None, 0, "unseen"),
    clip(None, None),
]


def test_all_heads_and_subsets() -> None:
    """Predicted actions 0, 1, 1, 0 and verbs 0, 0, 1, 0, 1; what has no label is not judged."""
    scores = {"label": np.eye(3)[[0, 1, 1, 0, 0, 0]], "verb": np.eye(2)[[0, 0, 1, 0, 1, 0]]}
    assert anticipation_recalls(scores, CLIPS, k=1) == pytest.approx(
        {
            "recall1": (1 / 2 + 1 + 0) / 3,
            "recall1_unseen": (0 + 1) / 2,
            "recall1_tail": (1 + 0) / 2,
            "verb_recall1": (2 / 3 + 1 / 2) / 2,
            "verb_recall1_unseen": (1 / 2 + 1) / 2,
            "verb_recall1_tail": 0.0,
        }
    )


def test_unobservable_clips_count_in_figures_of_their_own() -> None:
    """As above, with two more actions 0 (verb 0), one of them unseen, and one unseen action 2 whose verb has no label."""
    scores = {"label": np.eye(3)[[0, 1, 1, 0, 0, 0]], "verb": np.eye(2)[[0, 0, 1, 0, 1, 0]]}
    more = [clip(0, 0), clip(0, 0, "unseen"), clip(2, None, "unseen", "tail"), clip(None, None, "tail_verb")]
    found = anticipation_recalls(scores, CLIPS, 1, unobservable=more)
    alone = anticipation_recalls(scores, CLIPS, 1)
    assert {name: found[name] for name in alone} == alone
    assert {name.removesuffix("_all"): value for name, value in found.items() if name not in alone} == pytest.approx(
        {
            "recall1": (1 / 4 + 1 + 0) / 3,
            "recall1_unseen": (0 + 1 + 0) / 3,
            "recall1_tail": (1 + 0) / 2,
            "verb_recall1": (2 / 5 + 1 / 2) / 2,
            "verb_recall1_unseen": (1 / 3 + 1) / 2,
            "verb_recall1_tail": 0.0,
        }
    )
    only = anticipation_recalls({"label": np.eye(3)[[0]]}, [clip(0, None)], 1, unobservable=[clip(1, None, "unseen")])
    assert only == {"recall1": 1.0, "recall1_all": 0.5, "recall1_unseen_all": 0.0}
