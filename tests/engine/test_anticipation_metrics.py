"""Class-mean recall worked out by hand, and against the definition written as loops."""

import numpy as np
import pytest

from vidkd.data.manifest import Clip
from vidkd.engine.metrics import anticipation_recalls, class_mean_recall, label_frequencies, labels_of


def by_definition(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """For every class with samples: the share of them for which fewer than k other classes score at least as high as the true one."""
    recalls = []
    for name in range(scores.shape[1]):
        hits, samples = 0, 0
        for row, label in zip(scores, labels, strict=True):
            if label == name:
                samples += 1
                hits += sum(row[other] >= row[label] for other in range(len(row)) if other != label) < k
        if samples:
            recalls.append(hits / samples)
    return sum(recalls) / len(recalls)


SCORES = np.array(
    [
        [0.5, 0.3, 0.2, 0.0],  # class 0, first
        [0.1, 0.6, 0.3, 0.0],  # class 0, third
        [0.2, 0.3, 0.5, 0.0],  # class 0, third
        [0.4, 0.5, 0.1, 0.0],  # class 1, first
        [0.6, 0.3, 0.1, 0.0],  # class 2, third
    ]
)
LABELS = np.array([0, 0, 0, 1, 2])


@pytest.mark.parametrize(("k", "expected"), [(1, (1 / 3 + 1 + 0) / 3), (2, (1 / 3 + 1 + 0) / 3), (3, 1.0), (5, 1.0)])
def test_by_hand(k: int, expected: float) -> None:
    """Class 3 has no sample and is no part of the mean."""
    assert class_mean_recall(SCORES, LABELS, k) == pytest.approx(expected)


def test_a_frequent_class_weighs_as_much_as_a_rare_one() -> None:
    scores = np.repeat(np.eye(3)[[0]], 10, axis=0)
    assert class_mean_recall(scores, np.array([0] * 9 + [1]), k=1) == 0.5


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (2, 0.0), (3, 0.5), (4, 1.0)])
def test_ties_count_against_the_true_class(k: int, expected: float) -> None:
    scores = np.array([[0.25, 0.25, 0.25, 0.25], [0.3, 0.3, 0.3, 0.1]])
    assert class_mean_recall(scores, np.array([0, 1]), k) == expected


@pytest.mark.parametrize("seed", range(10))
def test_against_the_definition(seed: int) -> None:
    """Scores of few values, so that ties are frequent."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (40, 9)).astype(float)
    labels = rng.integers(0, 9, 40)
    for k in (1, 3, 5):
        assert class_mean_recall(scores, labels, k) == pytest.approx(by_definition(scores, labels, k))


@pytest.mark.parametrize(("missed", "expected"), [([], 4 / 9), ([1], 5 / 18), ([3], 1 / 3), ([0, 3, 3], (1 / 4 + 1 + 0 + 0) / 4)])
def test_what_nobody_saw_is_a_miss(missed: list[int], expected: float) -> None:
    """Of class 0 one of three is found first, of 1 the only one, of 2 none; class 3 has no other sample."""
    assert class_mean_recall(SCORES, LABELS, 1, missed=missed) == pytest.approx(expected)


def test_a_miss_is_one_where_every_class_is_among_the_first() -> None:
    assert class_mean_recall(SCORES, LABELS, 5, missed=[1]) == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert class_mean_recall(SCORES[:0], LABELS[:0], 5, missed=[1]) == 0.0


def test_what_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="no labelled clips"):
        class_mean_recall(SCORES[:0], LABELS[:0])
    with pytest.raises(ValueError, match=r"0\.\.3, found -1"):
        class_mean_recall(SCORES, LABELS - 1)
    with pytest.raises(ValueError, match=r"0\.\.3, found 2 to 4"):
        class_mean_recall(SCORES, LABELS + 2)
    with pytest.raises(ValueError, match=r"0\.\.3, found 0 to 4"):
        class_mean_recall(SCORES, LABELS, missed=[4])
    with pytest.raises(ValueError, match="not a number"):
        class_mean_recall(np.where(SCORES == 0.6, np.nan, SCORES), LABELS)


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


def test_labels_of_heads() -> None:
    assert labels_of(CLIPS).tolist() == [0, 0, 1, 2, -1, -1]
    assert labels_of(CLIPS, "verb").tolist() == [0, 0, 1, 1, 0, -1]


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


def test_frequencies_of_labels() -> None:
    found = label_frequencies(CLIPS, 4)
    assert found is not None
    assert found.tolist() == [0.5, 0.25, 0.25, 0.0]
    verbs = label_frequencies(CLIPS, 2, "verb")
    assert verbs is not None
    assert verbs.tolist() == [0.6, 0.4]
    assert label_frequencies(CLIPS[4:], 4) is None
    assert label_frequencies(CLIPS, 4, "noun") is None


def test_without_tags_there_are_no_subsets() -> None:
    assert set(anticipation_recalls({"label": np.eye(3)[[0, 1]]}, [clip(0, None), clip(1, None)])) == {"recall5"}
