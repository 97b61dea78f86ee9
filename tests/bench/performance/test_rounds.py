"""The arithmetic of alternatives measured in turn."""

from functools import partial

import pytest

from vidkd.base.timing import timed
from vidkd.bench.performance.rows import ratio_row, spread, value_row
from vidkd.bench.speed.rounds import interleave


class FakeClock:
    """Moves by what the measured code says it took."""

    def __init__(self) -> None:
        self.now = 7.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


def test_alternatives_take_turns_and_the_first_round_is_dropped() -> None:
    order: list[str] = []

    def count(name: str) -> float:
        order.append(name)
        return float(len(order))

    measured = interleave({name: partial(count, name) for name in "abc"}, rounds=2, warmup=1)
    assert "".join(order) == "abccbaabc"
    assert measured == {"a": [6.0, 7.0], "b": [5.0, 8.0], "c": [4.0, 9.0]}


def test_a_slow_spell_leaves_the_ratio_of_its_round_alone() -> None:
    clock = FakeClock()
    pace = iter([1.0] * 2 + [1.0] * 2 + [10.0] * 2 + [1.0] * 2)  # everything is ten times slower for one whole round

    def work(seconds: float) -> float:
        return timed(lambda: clock.spend(seconds * next(pace)), clock=clock)

    measured = interleave({"ours": lambda: work(0.3), "bare": lambda: work(0.2)}, rounds=3, warmup=1)
    assert measured["ours"] == pytest.approx([0.3, 3.0, 0.3])
    row = ratio_row("ours / bare", measured["ours"], measured["bare"], at_most=1.5)
    assert (row["min"], row["median"], row["max"], row["n"]) == (1.5, 1.5, 1.5, 3)


@pytest.mark.parametrize(("names", "rounds", "warmup"), [("", 1, 0), ("a", 0, 0), ("a", 1, -1)])
def test_interleave_refuses_nonsense(names: str, rounds: int, warmup: int) -> None:
    with pytest.raises(ValueError, match="rounds"):
        interleave(dict.fromkeys(names, lambda: 1.0), rounds=rounds, warmup=warmup)


@pytest.mark.parametrize(
    ("bound", "target", "met"),
    [
        ({"at_least": 2.0}, ">= 2", True),
        ({"at_least": 2.1}, ">= 2.1", False),
        ({"at_most": 2.0}, "<= 2", True),
        ({"at_most": 1.9}, "<= 1.9", False),
    ],
)
def test_the_median_ratio_is_held_against_the_target(bound: dict[str, float], target: str, met: bool) -> None:
    row = ratio_row("x / y", [2.0, 30.0, 1.0], [2.0, 10.0, 0.5], **bound)
    assert (row["median"], row["target"], row["met"]) == (2.0, target, met)


def test_ratios_pair_rounds_not_medians() -> None:
    # medians 2 and 2 would give 1
    assert ratio_row("x / y", [1.0, 2.0, 9.0], [2.0, 8.0, 1.0])["median"] == 0.5
    with pytest.raises(ValueError, match="zip"):
        ratio_row("x / y", [1.0, 2.0], [1.0])


def test_value_rows() -> None:
    assert value_row("a", "s", [3.0, 1.0, 2.00004]) == {"name": "a", "unit": "s", "median": 2.0, "min": 1.0, "max": 3.0, "n": 3}
    assert value_row("a", "s", [0.2], at_most=0.1)["met"] is False
    assert spread([0.000123456])["median"] == 0.0001235
    with pytest.raises(ValueError, match="no values"):
        spread([])
