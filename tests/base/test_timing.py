"""Arithmetic of timing, on a clock that moves only when told."""

import contextlib
import math

import pytest

from vidkd.base.timing import Stopwatch, measure, timed


class FakeClock:
    """Moves by what the measured code says it took."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


def test_measure_counts_only_the_timed_calls() -> None:
    clock, durations = FakeClock(), iter([9.0, 9.0, 0.1, 0.4, 0.2, 0.3])
    timing = measure(lambda: clock.spend(next(durations)), warmup=2, repeats=4, clock=clock)
    assert timing.median_s == pytest.approx(0.25)
    assert timing.p95_s == pytest.approx(0.385)
    assert timing.n == 4


def test_queued_work_counts_for_the_call_that_queued_it() -> None:
    clock, queue = FakeClock(), [5.0]  # five seconds of somebody else's work still run on the device

    def synchronise() -> None:
        clock.spend(sum(queue))
        queue.clear()

    timing = measure(lambda: queue.append(0.2), warmup=0, repeats=3, synchronise=synchronise, clock=clock)
    assert timing.median_s == pytest.approx(0.2)
    assert timing.p95_s == pytest.approx(0.2)
    queue.append(5.0)
    assert timed(lambda: queue.append(0.2), synchronise=synchronise, clock=clock) == pytest.approx(0.2)
    unsynchronised = measure(lambda: queue.append(0.2), warmup=0, repeats=3, clock=clock)
    assert unsynchronised.median_s == 0


def test_stopwatch_shares() -> None:
    clock = FakeClock()
    watch = Stopwatch(clock)

    def loader():
        for batch in range(3):
            clock.spend(0.5)
            yield batch
        clock.spend(0.5)  # the end of an epoch is waited for too

    seen = []
    for batch in watch.waiting(loader(), "data"):
        with watch.part("step"):
            clock.spend(1.0)
        clock.spend(0.25)
        seen.append(batch)
    assert seen == [0, 1, 2]
    assert watch.seconds() == pytest.approx({"data": 2.0, "step": 3.0, "other": 0.75})
    assert watch.total_s() == pytest.approx(5.75)
    assert watch.shares() == pytest.approx({"data": 2 / 5.75, "step": 3 / 5.75, "other": 0.75 / 5.75})
    assert math.isclose(sum(watch.shares().values()), 1.0)
    watch.reset()
    assert watch.shares() == {"other": 0.0}


def test_stopwatch_counts_a_part_that_raises_and_refuses_nesting() -> None:
    clock = FakeClock()
    watch = Stopwatch(clock)
    with contextlib.suppress(KeyError), watch.part("step"):
        clock.spend(2.0)
        raise KeyError
    with pytest.raises(RuntimeError, match="'inner' begins inside part 'outer'"), watch.part("outer"), watch.part("inner"):
        pass
    with watch.part("step"):
        clock.spend(1.0)
    assert watch.seconds()["step"] == pytest.approx(3.0)
