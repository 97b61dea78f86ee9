"""Turns of models, blocks of calls and the clocks that time them, on time that moves only when told."""

from functools import partial

import pytest
import torch
from fake_clocks import FakeCuda, FakeTime

from vidkd.base.timing import timed
from vidkd.bench.speed.rounds import block, calls_in, clock_of, interleave
from vidkd.bench.speed.statistics import ratio


def test_rounds_are_told_as_they_end() -> None:
    told: list[int] = []
    measured = interleave({("a", 1): lambda: 1.0, ("b", 2): lambda: 2.0}, rounds=2, warmup=1, on_round=told.append)
    assert told == [1, 2, 3]
    assert measured == {("a", 1): [1.0, 1.0], ("b", 2): [2.0, 2.0]}


@pytest.mark.parametrize(("over_after", "counted"), [(1, 0), (2, 1), (3, 2), (9, 4)])
def test_a_round_in_hand_is_finished_and_none_begun_once_it_is_over(over_after: int, counted: int) -> None:
    called: list[str] = []

    def call(name: str) -> str:
        called.append(name)
        return name

    measured = interleave({name: partial(call, name) for name in "abc"}, rounds=4, warmup=1, is_over=lambda: len(called) >= 3 * over_after)
    assert measured == {name: [name] * counted for name in "abc"}
    assert len(called) == 3 * (counted + 1)


def test_the_first_call_of_a_block_is_not_timed() -> None:
    host, costs = FakeTime(), iter([5.0, 0.1, 0.2, 0.3])
    seconds = block(lambda: host.spend(next(costs)), calls=3, clock=partial(timed, clock=host))
    assert seconds == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(("seconds", "calls"), [(0.1, 5), (0.6, 1), (0.001, 10), (0.0, 10), (0.25, 2)])
def test_a_block_holds_as_many_calls_as_its_time_allows(seconds: float, calls: int) -> None:
    assert calls_in(seconds, block_s=0.5, most=10) == calls


def test_a_slow_spell_of_the_machine_hits_all_and_leaves_the_ratio_alone() -> None:
    """Every round has a pace of its own, up to nine times slower; twice as slow stays twice as slow."""
    host, pace = FakeTime(), {"now": 1.0}
    clock = partial(timed, clock=host)

    def turn(seconds: float) -> list[float]:
        return block(lambda: host.spend(seconds * pace["now"]), calls=4, clock=clock)

    def next_pace(number: int) -> None:
        pace["now"] = [1.0, 9.0, 3.0, 1.0, 5.0, 2.0][number]

    measured = interleave({"base": partial(turn, 0.01), "slow": partial(turn, 0.02)}, rounds=5, warmup=0, on_round=next_pace)
    assert measured["base"][1] == pytest.approx([0.09] * 4)
    found = ratio(measured["slow"], measured["base"])
    assert (found.value, found.n) == (pytest.approx(2.0), 5)
    assert found.ci95 == pytest.approx((2.0, 2.0))


def test_a_gpu_is_timed_by_its_own_work_and_not_by_when_the_host_returns() -> None:
    host = FakeTime()
    cuda = FakeCuda(host)
    cuda.launch(3.0)  # of somebody before; it must be over when the time begins

    def answer() -> None:
        host.spend(0.001)
        cuda.launch(0.05)

    assert timed(answer, clock=host, synchronise=cuda.synchronize) == pytest.approx(0.051)
    assert host.now == pytest.approx(10.051)


def test_what_the_host_does_after_the_gpu_counts_too() -> None:
    host = FakeTime()
    cuda = FakeCuda(host)

    def answer() -> None:
        cuda.launch(0.05)
        cuda.synchronize()  # the result is fetched
        host.spend(0.02)  # and turned into boxes

    assert timed(answer, clock=host, synchronise=cuda.synchronize) == pytest.approx(0.07)


def test_a_gpu_is_waited_for_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("cuda"))
    clock_of("cpu")(lambda: waited.append("call"))
    clock_of("cuda")(lambda: waited.append("call"))
    assert waited == ["call", "cuda", "call", "cuda"]
