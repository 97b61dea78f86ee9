"""Held-out groups and label fractions: never a group on both sides, no class lost, the same draw every time, fractions nested."""

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidkd.base.errors import ConfigError
from vidkd.data.groups import hold_out_groups, label_fraction, labels_per_class
from vidkd.data.manifest import Clip


def clips_of(groups: dict[str, list[int | None]]) -> list[Clip]:
    """Groups as lists of the labels of their clips."""
    return [
        Clip(path=f"{group}/{number}.avi", label=label, group=group, subsets={})
        for group, labels in groups.items()
        for number, label in enumerate(labels)
    ]


def groups_by_label(clips: list[Clip]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for clip in clips:
        if clip.label is not None:
            found.setdefault(clip.label, set()).add(clip.group)
    return found


@st.composite
def one_class_groups(draw: st.DrawFn) -> list[Clip]:
    """As UCF101: a group belongs to one class."""
    sizes = draw(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=8), min_size=1, max_size=6))
    return clips_of({f"{label}_g{number}": [label] * size for label, groups in enumerate(sizes) for number, size in enumerate(groups)})


any_groups = st.dictionaries(
    st.text(min_size=1, max_size=4), st.lists(st.integers(0, 5) | st.none(), min_size=1, max_size=6), max_size=14
).map(clips_of)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**31)


@given(any_groups, fractions, seeds)
def test_no_group_on_both_sides_and_no_clip_lost(clips: list[Clip], fraction: float, seed: int) -> None:
    train, val = hold_out_groups(clips, fraction, seed)
    assert not {clip.group for clip in train} & {clip.group for clip in val}
    assert sorted(train + val, key=clips.index) == clips
    assert train == [clip for clip in clips if clip in train]


@given(any_groups, fractions, seeds)
def test_training_keeps_every_class(clips: list[Clip], fraction: float, seed: int) -> None:
    train, _ = hold_out_groups(clips, fraction, seed)
    assert groups_by_label(train).keys() == groups_by_label(clips).keys()


@given(one_class_groups(), fractions, seeds)
def test_every_class_with_two_groups_is_on_both_sides(clips: list[Clip], fraction: float, seed: int) -> None:
    train, val = hold_out_groups(clips, fraction, seed)
    for label, groups in groups_by_label(clips).items():
        assert (label in groups_by_label(val)) == (len(groups) >= 2)
        assert label in groups_by_label(train)


@given(any_groups, fractions, seeds, st.randoms(use_true_random=False))
def test_the_draw_depends_on_the_seed_and_not_on_the_order(clips: list[Clip], fraction: float, seed: int, rng: random.Random) -> None:
    shuffled = rng.sample(clips, len(clips))
    for draw in (lambda c: hold_out_groups(c, fraction, seed)[1], lambda c: label_fraction(c, fraction, seed)):
        assert {clip.path for clip in draw(clips)} == {clip.path for clip in draw(shuffled)}


@given(any_groups, fractions, fractions, seeds)
def test_fractions_are_nested_and_whole_groups(clips: list[Clip], one: float, other: float, seed: int) -> None:
    small, large = (label_fraction(clips, fraction, seed) for fraction in sorted((one, other)))
    assert {clip.path for clip in small} <= {clip.path for clip in large}
    kept = {clip.group for clip in small}
    assert [clip for clip in clips if clip.group in kept] == small
    assert groups_by_label(small).keys() == groups_by_label(clips).keys()
    assert label_fraction(clips, 1.0, seed) == clips


@given(one_class_groups(), fractions, seeds)
def test_a_fraction_is_shared_out_evenly(clips: list[Clip], fraction: float, seed: int) -> None:
    """Webster's rule: no class got its last group (after the first) while another, with groups left, was further behind."""
    kept, total = groups_by_label(label_fraction(clips, fraction, seed)), groups_by_label(clips)
    number = sum(map(len, kept.values()))
    assert number == max(math.ceil(fraction * sum(map(len, total.values())) - 1e-9), len(total))
    for ahead, behind in itertools.permutations(total, 2):
        if len(kept[ahead]) > 1 and len(kept[behind]) < len(total[behind]):
            assert (len(kept[ahead]) - 0.5) / len(total[ahead]) <= (len(kept[behind]) + 0.5) / len(total[behind])


@given(one_class_groups(), fractions, seeds)
def test_about_the_fraction_of_each_class_is_held_out(clips: list[Clip], fraction: float, seed: int) -> None:
    """To half of the class's largest group; unless that is less than one group, or all but one."""
    _, val = hold_out_groups(clips, fraction, seed)
    held, groups = groups_by_label(val), groups_by_label(clips)
    size = Counter(clip.group for clip in clips)
    for label in held:
        if 1 < len(held[label]) < len(groups[label]) - 1:
            wanted = fraction * sum(size[group] for group in groups[label])
            largest = max(size[group] for group in groups[label])
            assert abs(sum(size[group] for group in held[label]) - wanted) <= largest / 2 + 1e-6


def test_a_film_that_holds_most_of_a_class_stays_in_training() -> None:
    clips = clips_of({"film": [0] * 42, **{f"g{number}": [0, 0] for number in range(14)}, **{f"h{number}": [1, 1] for number in range(35)}})
    for seed in range(10):
        _, val = hold_out_groups(clips, 0.09, seed)
        assert Counter(clip.label for clip in val) == {0: 6, 1: 6}
        assert "film" not in {clip.group for clip in label_fraction(clips, 0.5, seed)}


def test_unlabelled_groups_cost_no_label() -> None:
    clips = clips_of({"a": [0], "b": [0], "c": [None, None], "d": [0, None]})
    for seed in range(5):
        assert {"c"} <= {clip.group for clip in label_fraction(clips, 0.4, seed)}
        train, val = hold_out_groups(clips, 0.4, seed)
        assert "c" in {clip.group for clip in train}
        assert {clip.label for clip in val} >= {0}


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0, float("nan")])
def test_a_fraction_to_hold_out_must_leave_something(fraction: float) -> None:
    with pytest.raises(ConfigError, match="fraction to hold out"):
        hold_out_groups(clips_of({"a": [0]}), fraction, 0)


def test_labels_per_class_take_one_clip_of_each_group_first() -> None:
    clips = clips_of({"a": [0, 0, 0, 1], "b": [0, 1], "c": [0, 0, None], "d": [1]})
    for seed in range(5):
        kept = [clip for clip in labels_per_class(clips, 3, seed) if clip.label == 0]
        assert {clip.group for clip in kept} == {"a", "b", "c"}
    assert [clip.label for clip in labels_per_class(clips, 1, 0)].count(None) == 1
    assert labels_per_class(clips, 9, 0) == clips
    draws = [{clip.path for clip in labels_per_class(clips, count, 4)} for count in (1, 2, 3, 4)]
    assert draws[0] < draws[1] < draws[2] < draws[3]
