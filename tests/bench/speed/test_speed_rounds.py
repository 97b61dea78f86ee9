"""Turns of models, blocks of calls, the clocks that time them, and figures of rounds with their intervals."""

from functools import partial

import numpy as np
import pytest
import torch
from fake_clocks import FakeTime

from vidkd.base.timing import timed
from vidkd.bench.speed.compare import same_machine
from vidkd.bench.speed.rounds import block, clock_of, interleave, median, rate, ratio
from vidkd.bench.speed.run import machine


@pytest.mark.parametrize(("over_after", "counted"), [(1, 0), (2, 1), (3, 2), (9, 4)])
def test_a_running_round_is_finished_and_none_begun_once_it_is_over(over_after: int, counted: int) -> None:
    called: list[str] = []

    def call(name: str) -> str:
        called.append(name)
        return name

    measured = interleave({name: partial(call, name) for name in "abc"}, rounds=4, is_over=lambda: len(called) >= 3 * over_after)
    assert measured == {name: [name] * counted for name in "abc"}
    assert "".join(called) == ("abccba" * 3)[: 3 * (counted + 1)]


def test_a_slow_spell_of_the_machine_affects_all_and_leaves_the_ratio_alone() -> None:
    """Every round has a pace of its own, up to nine times slower; twice as slow stays twice as slow. First calls are not timed."""
    host, calls = FakeTime(), []

    def answer(seconds: float) -> None:
        calls.append(seconds)
        host.spend(seconds * [1.0, 1.0, 9.0, 3.0, 1.0, 5.0][(len(calls) - 1) // 10])

    turns = {seconds: partial(block, partial(answer, seconds), calls=4, clock=partial(timed, clock=host)) for seconds in (0.01, 0.02)}
    measured = interleave(turns, rounds=5)
    assert measured[0.01][1] == pytest.approx([0.09] * 4)
    found = ratio(measured[0.02], measured[0.01])
    assert (found.value, found.n) == (pytest.approx(2.0), 5)
    assert found.ci95 == pytest.approx((2.0, 2.0))


def test_a_gpu_is_waited_for_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("cuda"))
    clock_of("cpu")(lambda: waited.append("call"))
    clock_of("cuda")(lambda: waited.append("call"))
    assert waited == ["call", "cuda", "call", "cuda"]


def test_a_median_is_that_of_all_calls_and_few_rounds_have_no_interval() -> None:
    rounds = [[1.0, 2.0, 9.0], [3.0, 4.0, 5.0]]
    found = median(rounds, scale=1e3)
    assert (found.value, found.n, found.ci95) == (3500.0, 6, None)
    assert median(rounds, percent=95).value == np.percentile([1, 2, 3, 4, 5, 9], 95)
    assert median([[1.0, 2.0]] * 4).ci95 is None
    assert median([[1.0]] * 5).ci95 == (1.0, 1.0)


def test_rounds_are_drawn_and_not_calls() -> None:
    """Calls of a round are alike, rounds are not: with calls drawn the interval would be narrower by far."""
    rng = np.random.default_rng(0)
    rounds = rng.normal(10, 2, (30, 1)) + rng.normal(0, 0.01, (30, 20))
    low, high = median(rounds).ci95 or (0, 0)
    by_calls = median(rounds.reshape(-1, 1)).ci95 or (0, 0)
    assert high - low > 2 * (by_calls[1] - by_calls[0])


@pytest.mark.parametrize(("rounds", "calls"), [(5, 1), (15, 5)])
def test_intervals_cover_the_median_as_often_as_they_say(rounds: int, calls: int) -> None:
    """Of 200 made-up benchmarks, whose rounds differ as much as their calls, 90 to 99.5 % of the intervals hold the true median."""
    rng = np.random.default_rng(1)
    inside = 0
    for number in range(200):
        times = rng.lognormal(0, 0.1, (rounds, 1)) * rng.lognormal(0, 0.1, (rounds, calls))
        low, high = median(times, seed=number).ci95 or (0, 0)
        inside += low <= 1.0 <= high
    assert 180 <= inside <= 199


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
    one, other = ([[seconds] for seconds in of] for of in ([1.0, 8.0, 2.0, 9.0, 3.0], [1.0, 2.0, 2.0, 3.0, 3.0]))
    assert ratio(one, other).value == 1.0, "of 1, 4, 1, 3, 1; the medians of all are 3 and 2"


def test_the_machine_is_recorded_and_compared_by_what_decides_speed() -> None:
    found = machine()
    assert {"vidkd", "processor", "cores", "torch", "onnxruntime", "openvino", "processor flags", "governor", "load before"} <= set(found)
    assert "threads" not in found, "each figure has its own"
    assert same_machine(found, {**found, "torch": "9"})
    for name in ("processor", "processor flags", "cores of this process", "gpu"):
        assert not same_machine(found, {**found, name: "another"})
