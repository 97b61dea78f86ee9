"""Alternatives measured in turn, so that what else the machine does affects all of them alike, and figures of what was measured.

A round is what was measured within one turn of all; rounds, not calls, are resampled, for calls of one turn share what the machine did
meanwhile.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidkd.base.timing import timed
from vidkd.bench.intervals import NORMAL, factor_of

log = logging.getLogger(__name__)
DRAWS = 2000
FEWEST = 5
"""Rounds below which there is no interval: too few to hold the true median in 95 of 100."""
Name = TypeVar("Name")
Value = TypeVar("Value")
Clock: TypeAlias = Callable[[Callable[[], object]], float]
"""Gives the seconds of one call."""


def interleave(
    alternatives: Mapping[Name, Callable[[], Value]], *, rounds: int, is_over: Callable[[], bool] = lambda: False
) -> dict[Name, list[Value]]:
    """Call every alternative once a round, in turning order (A B C, C B A, ...), and keep what they return, by name and round.

    A first round, which fills caches, does not count. is_over: asked after each round; where it says yes no other begins, and the lists
    are as long as whole rounds have counted, if any.
    """
    measured: dict[Name, list[Value]] = {name: [] for name in alternatives}
    for number in range(rounds + 1):
        for name in list(alternatives)[:: 1 if number % 2 == 0 else -1]:
            value = alternatives[name]()
            if number:
                measured[name].append(value)
        log.info("round %d of %d%s", number, rounds, "" if number else " (a first one that does not count)")
        if is_over():
            break
    return measured


def block(call: Callable[[], object], *, calls: int, clock: Clock) -> list[float]:
    """Seconds of each of `calls` calls, after one that is not timed: what the model before left in caches and threads is gone by then."""
    call()
    return [clock(call) for _ in range(calls)]


def clock_of(device: str) -> Clock:
    """The clock for calls on a device: that of the host, which waits until a GPU is idle before and after the call."""
    if device == "cpu":
        return timed
    return partial(timed, synchronise=getattr(sys.modules["torch"], device).synchronize)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number, its 95 % interval (None where it cannot be known, or where the number is exact), and of how many measurements it is."""

    value: float
    ci95: tuple[float, float] | None = None
    n: int = 1


def median(rounds_RC: ArrayLike, *, percent: float = 50, scale: float = 1.0, seed: int = 0) -> Figure:
    """The median of all calls, (rounds, calls), or another percentile, times `scale`."""
    rounds = np.asarray(rounds_RC, np.float64) * scale
    return Figure(value=float(np.percentile(rounds, percent)), ci95=interval(rounds, percent, seed=seed), n=rounds.size)


def rate(rounds_RC: ArrayLike, *, each: int, seed: int = 0) -> Figure:
    """Items a second of calls that take seconds and hold `each` items: that many over the median. Its interval is that of the median."""
    found = median(rounds_RC, seed=seed)
    bounds = None if found.ci95 is None else (each / found.ci95[1], each / found.ci95[0])
    return Figure(value=each / found.value, ci95=bounds, n=found.n)


def ratio(rounds_RC: ArrayLike, baseline_RC: ArrayLike, *, seed: int = 0) -> Figure:
    """How many times as long as the baseline: the median over rounds of the ratio of the two medians within a round.

    A spell in which all is slow does not change it. The two may differ in calls. Raises ValueError if they differ in rounds.
    """
    above, below = (np.median(np.asarray(rounds, np.float64), axis=1) for rounds in (rounds_RC, baseline_RC))
    return median((above / below)[:, None], seed=seed)


def interval(rounds_RC: NDArray[np.float64], percent: float, *, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % percentile interval of a percentile of all calls; a draw takes as many rounds as there are, with replacement.

    None with fewer than FEWEST rounds. With few rounds draws vary too little, so the ends lie
    further out by as much as a mean's interval by Student's t is wider than by the normal law: of medians it then holds the true one in at
    least 90 of 100 cases (tested); of 95th percentiles that is not tested. Source: Davison & Hinkley 1997, section 5.3; Hesterberg 2015
    ("expanded percentile"), from memory.
    """
    count = len(rounds_RC)
    if count < FEWEST:
        return None
    chosen = np.random.default_rng(seed).integers(0, count, (DRAWS, count))
    drawn = np.percentile(rounds_RC[chosen].reshape(DRAWS, -1), percent, axis=1)
    tail = NormalDist().cdf(-NORMAL * factor_of(count))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
