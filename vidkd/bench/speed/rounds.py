"""Alternatives measured in turn, so that what else the machine does hits all of them alike."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias, TypeVar

from vidkd.base.timing import timed

Name = TypeVar("Name")
Value = TypeVar("Value")
Clock: TypeAlias = Callable[[Callable[[], object]], float]
"""Gives the seconds of one call."""


def interleave(
    alternatives: Mapping[Name, Callable[[], Value]],
    *,
    rounds: int,
    warmup: int = 1,
    on_round: Callable[[int], None] | None = None,
    is_over: Callable[[], bool] = lambda: False,
) -> dict[Name, list[Value]]:
    """Call every alternative once a round, in turning order (A B C, C B A, ...), and keep what they return, by name and round.

    The first `warmup` rounds are thrown away. on_round: called with the number of every round that has ended, from 1 on, warm-up included.
    is_over: asked after each round; where it says yes no other begins, and the lists are as long as whole rounds have counted, if any.
    Raises ValueError without alternatives or for rounds < 1 or warmup < 0.
    """
    if not alternatives or rounds < 1 or warmup < 0:
        raise ValueError(f"needs alternatives, rounds >= 1 and warmup >= 0, got {len(alternatives)}, {rounds} and {warmup}")
    measured: dict[Name, list[Value]] = {name: [] for name in alternatives}
    for number in range(warmup + rounds):
        for name in list(alternatives)[:: 1 if number % 2 == 0 else -1]:
            value = alternatives[name]()
            if number >= warmup:
                measured[name].append(value)
        if on_round is not None:
            on_round(number + 1)
        if is_over():
            break
    return measured


def block(call: Callable[[], object], *, calls: int, clock: Clock) -> list[float]:
    """Seconds of each of `calls` calls, after one that is not timed: what the model before left in caches and threads is gone by then."""
    call()
    return [clock(call) for _ in range(calls)]


def calls_in(seconds: float, *, block_s: float, most: int) -> int:
    """How many calls of so many seconds each a block of `block_s` seconds holds: at least one, at most `most`."""
    return max(1, min(most, int(block_s / seconds) if seconds > 0 else most))


def clock_of(device: str) -> Clock:
    """The clock for calls on a device: that of the host, which waits until a GPU is idle before and after the call."""
    if device == "cpu":
        return timed
    return partial(timed, synchronise=getattr(sys.modules["torch"], device).synchronize)
