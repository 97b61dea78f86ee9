"""Intervals against scipy, against known truth in a simulation, and in the limit cases."""

import time

import numpy as np
import pytest
from scipy import stats

from vidkd.base.errors import DataError
from vidkd.bench.intervals import Cell, bootstrap_ci, paired_difference


def study(
    rng: np.random.Generator, *, seeds: int = 5, folds: int = 1, groups: int = 20, clips: int = 5, accuracy: float = 0.7
) -> list[Cell]:
    """Two-level data with a known mean: a seed and a group each shift the chance of being right."""
    shift_S = rng.uniform(-0.1, 0.1, seeds)
    cells = []
    for fold in range(folds):
        shift_G = rng.uniform(-0.15, 0.15, groups)
        names = np.repeat([f"g{fold}-{group}" for group in range(groups)], clips)
        for seed in range(seeds):
            chance = accuracy + shift_S[seed] + np.repeat(shift_G, clips)
            cells.append(Cell(seed=seed, fold=str(fold), correct=rng.random(groups * clips) < chance, group=names))
    return cells


def test_mean_is_the_mean_of_the_cells_values() -> None:
    cells = [
        Cell(seed=0, fold="1", correct=[1, 1, 0, 0], group=["a", "a", "b", "c"]),
        Cell(seed=1, fold="1", correct=[1, 1, 1, 1], group=["a", "a", "b", "c"]),
        Cell(seed=0, fold="2", correct=[1, 0], group=["d", "e"]),
    ]
    interval = bootstrap_ci(cells)
    assert [cell.mean for cell in cells] == [0.5, 1.0, 0.5]
    assert interval.mean == pytest.approx(2 / 3)
    assert (interval.cells, interval.seeds, interval.groups, interval.clips) == (3, 2, 5, 10)


def test_groups_alone_agree_with_scipy() -> None:
    rng = np.random.default_rng(1)
    correct = rng.random(150) < 0.6
    ours = bootstrap_ci([Cell(seed=0, fold="1", correct=correct, group=np.arange(150).astype(str))], over=("groups",))
    theirs = stats.bootstrap((correct.astype(float),), np.mean, n_resamples=10_000, method="percentile", rng=2).confidence_interval
    assert ours.ci95 == pytest.approx((theirs.low, theirs.high), abs=0.008)


def test_seeds_alone_agree_with_students_interval() -> None:
    values = np.random.default_rng(1).random((12, 30))
    cells = [Cell(seed=seed, fold="1", correct=row, group=["only"] * 30) for seed, row in enumerate(values)]
    means = values.mean(axis=1)
    assert bootstrap_ci(cells, over=("seeds",)).ci95 == pytest.approx(stats.t.interval(0.95, 11, means.mean(), stats.sem(means)), abs=0.004)


def test_clips_of_one_group_do_not_count_as_independent() -> None:
    """Groups that are right or wrong as a whole: many clips a group say no more than one."""
    rng = np.random.default_rng(0)
    right_G = (rng.random(20) < 0.5).astype(float)
    few = [Cell(seed=seed, fold="1", correct=right_G, group=np.arange(20).astype(str)) for seed in range(2)]
    many = [Cell(seed=seed, fold="1", correct=np.repeat(right_G, 50), group=np.repeat(np.arange(20).astype(str), 50)) for seed in range(2)]
    assert bootstrap_ci(many).ci95 == pytest.approx(bootstrap_ci(few).ci95)


def test_both_levels_widen_the_interval() -> None:
    cells = study(np.random.default_rng(3), seeds=12)
    widths = {over: np.diff(bootstrap_ci(cells, over=over).ci95)[0] for over in [("seeds",), ("groups",), ("seeds", "groups")]}
    assert widths["seeds", "groups"] > max(widths["seeds",], widths["groups",])


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_ci(study(rng, seeds=6, folds=2), draws=1000).ci95
        hits += low <= 0.7 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_the_paired_interval_holds_the_truth_and_is_narrower_than_unpaired() -> None:
    """Two methods that share the luck of the seed and of the groups; the true difference is 0.1."""
    rng = np.random.default_rng(8)
    hits, paired_widths, single_widths = 0, [], []
    for _ in range(200):
        cells = study(rng, seeds=5, accuracy=0.6)
        better = [
            Cell(seed=c.seed, fold=c.fold, correct=np.maximum(c.correct, rng.random(len(c.correct)) < 0.25), group=c.group) for c in cells
        ]
        paired = paired_difference(better, cells, draws=1000)
        hits += paired.ci95[0] <= 0.25 * 0.4 <= paired.ci95[1]
        paired_widths.append(np.diff(paired.ci95))
        single_widths.append(np.diff(bootstrap_ci(cells, draws=1000).ci95))
    assert 0.88 <= hits / 200 <= 1.0
    assert np.mean(paired_widths) < 0.8 * np.mean(single_widths)


def test_equal_methods_differ_by_exactly_nothing() -> None:
    cells = study(np.random.default_rng(3), folds=3)
    interval = paired_difference(cells, cells)
    assert interval.mean == 0
    assert interval.ci95 == (0, 0)


def test_the_difference_changes_its_sign_with_the_sides() -> None:
    rng = np.random.default_rng(4)
    left, right = study(rng), study(rng, accuracy=0.5)
    one, other = paired_difference(left, right), paired_difference(right, left)
    assert one.mean == pytest.approx(np.mean([cell.mean for cell in left]) - np.mean([cell.mean for cell in right]))
    assert one.mean == -other.mean
    assert one.ci95 == pytest.approx((-other.ci95[1], -other.ci95[0]))


def test_more_data_means_a_narrower_interval() -> None:
    rng = np.random.default_rng(5)

    def width(seeds: int, groups: int) -> float:
        cells = [study(rng, seeds=seeds, groups=groups) for _ in range(2)]
        return float(np.diff(paired_difference(*cells).ci95)[0])

    small, large = width(4, 10), width(64, 160)
    assert large == pytest.approx(small / 4, rel=0.4)


def test_pairs_are_the_cells_on_both_sides() -> None:
    cells = study(np.random.default_rng(3), folds=2)
    assert paired_difference(cells, cells[3:]).cells == len(cells) - 3


def test_a_missing_cell_is_no_obstacle() -> None:
    cells = study(np.random.default_rng(3), seeds=3, folds=2)[:-1]
    interval = bootstrap_ci(cells)
    assert interval.mean == pytest.approx(np.mean([cell.mean for cell in cells]))
    assert interval.ci95[0] < interval.mean < interval.ci95[1]


@pytest.mark.parametrize(
    ("seeds", "groups", "says"), [(1, 20, "one seed"), (5, 1, "fold 0 has one test group"), (2, 2, None)], ids=["seed", "group", "enough"]
)
def test_what_cannot_be_known_is_none_and_says_why(seeds: int, groups: int, says: str | None) -> None:
    interval = bootstrap_ci(study(np.random.default_rng(0), seeds=seeds, groups=groups))
    assert (interval.ci95 is None) == (says is not None)
    assert says is None or says in interval.note


def test_it_repeats_itself_and_obeys_its_seed() -> None:
    cells = study(np.random.default_rng(3))
    assert bootstrap_ci(cells) == bootstrap_ci(cells)
    assert bootstrap_ci(cells).ci95 != bootstrap_ci(cells, seed=1).ci95


def test_it_is_fast_enough_for_every_table() -> None:
    cells = study(np.random.default_rng(0), seeds=5, folds=3, groups=28, clips=5)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        bootstrap_ci(cells)
        times.append(time.perf_counter() - start)
    assert min(times) < 1


GOOD = {"seed": 0, "fold": "1", "correct": [1, 0], "group": ["a", "b"], "clip": ["x", "y"]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"group": ["a"]}, "one score and one group"),
        ({"correct": [], "group": [], "clip": []}, "one score and one group"),
        ({"clip": ["x"]}, "one score and one group"),
        ({"correct": [1, float("nan")]}, "not a number"),
    ],
)
def test_a_cell_is_checked(change: dict, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Cell(**{**GOOD, **change})


@pytest.mark.parametrize(
    "change", [{"group": ["b", "a"]}, {"clip": ["y", "x"]}, {"correct": [1, 0, 1], "group": list("abc"), "clip": None}]
)
def test_other_clips_are_no_pair(change: dict) -> None:
    with pytest.raises(DataError, match="not judged on the same clips"):
        paired_difference([Cell(**GOOD)], [Cell(**{**GOOD, **change})])
    with pytest.raises(DataError, match="not judged on the same clips"):
        bootstrap_ci([Cell(**GOOD), Cell(**{**GOOD, "seed": 1, **change})])


def test_refusals() -> None:
    with pytest.raises(DataError, match="no cells"):
        bootstrap_ci([])
    with pytest.raises(DataError, match="given twice"):
        bootstrap_ci([Cell(**GOOD), Cell(**GOOD)])
    with pytest.raises(DataError, match="both sides"):
        paired_difference([Cell(**GOOD)], [Cell(**{**GOOD, "fold": "2"})])
