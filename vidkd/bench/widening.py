"""How much wider than a bootstrap's percentiles an interval must be where few were drawn from: few seeds, few groups."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POINTS = 20_001
"""Of the numerical integral of Student's density; the quantile is exact to four digits."""
NORMAL = 1.959964
"""The 97.5 % quantile of the normal law."""


def student_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t of so many degrees of freedom, 1 at least and not only whole ones.

    By t = sqrt(freedom) tan(angle), under which the density becomes cos(angle) ** (freedom - 1). Raises ValueError for less than 1.
    """
    if not freedom >= 1:
        raise ValueError(f"degrees of freedom must be 1 or more: {freedom}")
    if freedom > 1e5:
        return NORMAL
    angles = np.linspace(0, math.pi / 2, POINTS)
    density = np.cos(angles[:-1] + angles[1] / 2) ** (freedom - 1)  # at the middle of each step
    share = np.concatenate([[0], density.cumsum()]) / density.sum()
    return float(math.sqrt(freedom) * math.tan(np.interp(0.95, share, angles)))


def factor_of(count: int) -> float:
    """How much further out than percentiles of draws of `count` groups, two or more, the ends of a 95 % interval lie."""
    return student_quantile(count - 1) / NORMAL * math.sqrt(count / (count - 1))


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one level or stratum adds to the variance of a mean, and on how many degrees of freedom that estimate stands."""

    variance: float
    freedom: int


def part_of(off: NDArray[np.float64]) -> Part:
    """The part of n seeds or groups: by how much each lies off in the mean, (n,), which sums to zero."""
    count = len(off)
    return Part(variance=float(off @ off) * count / (count - 1), freedom=count - 1)


def pooled(strata: Sequence[Part]) -> list[Part]:
    """The parts of strata that are drawn from apart (folds) as one, taken to vary alike; none of none."""
    return [Part(variance=sum(part.variance for part in strata), freedom=sum(part.freedom for part in strata))] if strata else []


def half_width(parts: Sequence[Part]) -> float:
    """Of a 95 % interval of a mean: Student's quantile times the root of the parts together; the freedom is Satterthwaite's (1946).

    What falls to a seed and a group together is part of both, so of crossed levels the interval is on the safe side.
    """
    variance = sum(part.variance for part in parts)
    if variance <= 0:
        return 0.0
    freedom = variance**2 / sum(part.variance**2 / part.freedom for part in parts)
    return student_quantile(max(1.0, freedom)) * math.sqrt(variance)


def stretched(drawn: NDArray[np.float64], about: float, half: float) -> tuple[float, float]:
    """The 95 % percentiles of draws of a mean, stretched about it so that they are as far apart as an interval of this half width.

    Percentiles keep what is lopsided in draws, and are as near as those of the normal law, too near for a mean of few. After the expanded
    percentiles of Hesterberg 2015 (section 4.5), from memory; stretched, as of two or three groups no draw lies far enough out.
    """
    low, high = np.percentile(drawn, [2.5, 97.5])
    spread = NORMAL * float(np.std(drawn))
    factor = half / spread if spread > 0 else 1.0
    return about + float(low - about) * factor, about + float(high - about) * factor
