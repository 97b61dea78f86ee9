"""Figures of timings: medians, 95th percentiles and ratios, each with a 95 % interval over rounds.

A round is what was measured within one turn; rounds, not calls, are resampled, for calls of one turn share what the machine did meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidkd.base.timing import percentile
from vidkd.bench.widening import NORMAL, factor_of

DRAWS = 2000
FEWEST = 5
"""Rounds below which there is no interval: too few to hold the true median in 95 of 100."""
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number, its 95 % interval (None where it cannot be known, or where the number is exact), and of how many measurements it is."""

    value: float
    ci95: tuple[float, float] | None = None
    n: int = 1


def median(rounds_RC: ArrayLike, *, scale: float = 1.0, seed: int = 0) -> Figure:
    """The median of all calls, (rounds, calls), times `scale`. Raises ValueError without a call."""
    rounds = _rounds(rounds_RC) * scale
    return Figure(value=float(np.median(rounds)), ci95=interval(rounds, _medians, seed=seed), n=rounds.size)


def p95(rounds_RC: ArrayLike, *, scale: float = 1.0, seed: int = 0) -> Figure:
    """The 95th percentile of all calls, (rounds, calls), times `scale`. Raises ValueError without a call."""
    rounds = _rounds(rounds_RC) * scale
    return Figure(value=percentile(rounds.ravel().tolist(), 95), ci95=interval(rounds, _p95s, seed=seed), n=rounds.size)


def rate(rounds_RC: ArrayLike, *, each: int, seed: int = 0) -> Figure:
    """Items a second of calls that take seconds and hold `each` items: that many over the median. Its interval is that of the median."""
    found = median(rounds_RC, seed=seed)
    bounds = None if found.ci95 is None else (each / found.ci95[1], each / found.ci95[0])
    return Figure(value=each / found.value, ci95=bounds, n=found.n)


def ratio(rounds_RC: ArrayLike, baseline_RC: ArrayLike, *, seed: int = 0) -> Figure:
    """How many times as long as the baseline: the median over rounds of the ratio of the two medians within a round.

    A spell in which all is slow does not change it. The two may differ in calls. Raises ValueError if they differ in rounds.
    """
    above, below = _rounds(rounds_RC), _rounds(baseline_RC)
    if len(above) != len(below):
        raise ValueError(f"{len(above)} rounds against {len(below)}")
    ratios = (np.median(above, axis=1) / np.median(below, axis=1))[:, None]
    return Figure(value=float(np.median(ratios)), ci95=interval(ratios, _medians, seed=seed), n=len(ratios))


def interval(rounds_RC: Array, statistic: Callable[[Array], Array], *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % percentile interval of a statistic of all calls; a draw takes as many rounds as there are, with replacement.

    statistic: (draws, calls) -> (draws,). None with fewer than FEWEST rounds. With few rounds draws vary too little, so the percentiles lie
    further out by as much as a mean's interval by Student's t is wider than by the normal law: of medians it then holds the true one in at
    least 90 of 100 cases (tested); of 95th percentiles that is not tested. Source: Davison & Hinkley 1997, section 5.3; Hesterberg 2015
    ("expanded percentile"), from memory.
    """
    count = len(rounds_RC)
    if count < FEWEST:
        return None
    chosen = np.random.default_rng(seed).integers(0, count, (draws, count))
    return percentile_interval(statistic(rounds_RC[chosen].reshape(draws, -1)), tail=expanded_tail(count))


def expanded_tail(rounds: int) -> float:
    """The share to leave out on each side so that `rounds` draws give 95 %: Phi(-sqrt(n / (n - 1)) t), t of n - 1 degrees of freedom."""
    return NormalDist().cdf(-NORMAL * factor_of(rounds))


def percentile_interval(drawn: Array, *, tail: float = 0.025) -> tuple[float, float] | None:
    """The percentiles that leave out `tail` on each side of a statistic of each draw, (draws,); None without a draw."""
    if not len(drawn):
        return None
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def _rounds(values: ArrayLike) -> Array:
    rounds = np.asarray(values, np.float64)
    if rounds.ndim != 2 or not rounds.size:
        raise ValueError(f"timings must be (rounds, calls), at least one: {rounds.shape}")
    return rounds


def _medians(drawn: Array) -> Array:
    return np.asarray(np.median(drawn, axis=1))


def _p95s(drawn: Array) -> Array:
    return np.asarray(np.percentile(drawn, 95, axis=1))
