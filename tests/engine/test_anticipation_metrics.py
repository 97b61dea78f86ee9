"""Class-mean recall worked out by hand, and against the definition written as loops."""

import numpy as np
import pytest

from vidkd.data.manifest import Clip
from vidkd.engine.metrics import anticipation_recalls, class_mean_recall

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


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (2, 0.0), (3, 0.5), (4, 1.0)])
def test_ties_count_against_the_true_class(k: int, expected: float) -> None:
    scores = np.array([[0.25, 0.25, 0.25, 0.25], [0.3, 0.3, 0.3, 0.1]])
    assert class_mean_recall(scores, np.array([0, 1]), k) == expected


@pytest.mark.parametrize(("missed", "expected"), [([], 4 / 9), ([1], 5 / 18), ([3], 1 / 3), ([0, 3, 3], (1 / 4 + 1 + 0 + 0) / 4)])
def test_what_nobody_saw_is_a_miss(missed: list[int], expected: float) -> None:
    """Of class 0 one of three is found first, of 1 the only one, of 2 none; class 3 has no other sample."""
    assert class_mean_recall(SCORES, LABELS, 1, missed=missed) == pytest.approx(expected)


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
