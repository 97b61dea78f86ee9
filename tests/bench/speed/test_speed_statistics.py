"""Medians, percentiles, rates and ratios of rounds, and their intervals."""

import numpy as np
import pytest

from vidkd.bench.speed.statistics import expanded_tail, interval, median, p95, rate, ratio


def test_a_median_is_that_of_all_calls() -> None:
    rounds = [[1.0, 2.0, 9.0], [3.0, 4.0, 5.0]]
    found = median(rounds, scale=1e3)
    assert (found.value, found.n) == (3500.0, 6)
    assert p95(rounds).value == np.percentile([1, 2, 3, 4, 5, 9], 95)


def test_few_rounds_have_no_interval() -> None:
    """With three values the whole range holds the median in 75 of 100 only."""
    assert median([[1.0, 2.0]] * 4).ci95 is None
    assert rate([[0.5]], each=4).ci95 is None
    assert median([[1.0]] * 5).ci95 == (1.0, 1.0)


def test_fewer_rounds_leave_out_less() -> None:
    stats = pytest.importorskip("scipy.stats")
    for rounds in (5, 6, 12, 15, 100):
        exact = stats.norm.cdf(-np.sqrt(rounds / (rounds - 1)) * stats.t.ppf(0.975, rounds - 1))
        assert expanded_tail(rounds) == pytest.approx(exact, rel=0.03)
    assert expanded_tail(10**6) == pytest.approx(0.025, rel=1e-4)


def test_rounds_are_drawn_and_not_calls() -> None:
    """Calls of a round are alike, rounds are not: with calls drawn the interval would be narrower by far."""
    rng = np.random.default_rng(0)
    rounds = rng.normal(10, 2, (30, 1)) + rng.normal(0, 0.01, (30, 20))
    low, high = median(rounds).ci95 or (0, 0)
    by_calls = interval(rounds.reshape(-1, 1), lambda drawn: np.median(drawn, axis=1))
    assert by_calls is not None
    assert high - low > 2 * (by_calls[1] - by_calls[0])


@pytest.mark.parametrize(("rounds", "calls"), [(5, 1), (6, 10), (15, 5)])
def test_intervals_cover_the_median_as_often_as_they_say(rounds: int, calls: int) -> None:
    """Of 300 made-up benchmarks, whose rounds differ as much as their calls, between 90 and 99 % of the intervals hold the true median."""
    rng = np.random.default_rng(1)
    inside = 0
    for number in range(300):
        times = rng.lognormal(0, 0.1, (rounds, 1)) * rng.lognormal(0, 0.1, (rounds, calls))
        low, high = median(times, seed=number).ci95 or (0, 0)
        inside += low <= 1.0 <= high
    assert 270 <= inside <= 298


def test_a_rate_is_items_over_the_median_and_its_bounds_change_places() -> None:
    rounds = [[0.1, 0.1], [0.2, 0.2], [0.4, 0.4], [0.2, 0.2], [0.2, 0.2]]
    of_time, found = median(rounds), rate(rounds, each=8)
    assert found.value == pytest.approx(40.0)
    assert of_time.ci95 is not None
    assert found.ci95 == pytest.approx((8 / of_time.ci95[1], 8 / of_time.ci95[0]))


def test_a_ratio_pairs_rounds() -> None:
    slow, fast = [[2.0], [40.0], [6.0], [2.0], [2.0]], [[1.0, 1.0], [20.0, 20.0], [3.0, 3.0], [1.0, 1.0], [1.0, 1.0]]
    assert ratio(slow, fast).value == 2.0
    assert ratio(fast, fast).ci95 == (1.0, 1.0)
    with pytest.raises(ValueError, match="5 rounds against 2"):
        ratio(slow, fast[:2])


def test_two_equal_noisy_models_have_a_ratio_of_one() -> None:
    rng = np.random.default_rng(2)
    found = ratio(rng.lognormal(0, 0.4, (400, 1)), rng.lognormal(0, 0.4, (400, 1)))
    assert found.value == pytest.approx(1.0, abs=0.06)
    assert found.ci95 is not None
    assert found.ci95[0] < 1 < found.ci95[1]


def test_draws_are_the_same_for_the_same_seed() -> None:
    rounds = np.random.default_rng(3).normal(1, 0.1, (8, 3))
    assert median(rounds, seed=5) == median(rounds, seed=5)


@pytest.mark.parametrize("nothing", [[], [[]], [1.0, 2.0]])
def test_timings_must_be_rounds_of_calls(nothing: list) -> None:
    with pytest.raises(ValueError, match="rounds, calls"):
        median(nothing)
