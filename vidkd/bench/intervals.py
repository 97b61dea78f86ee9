"""95 % intervals of a study: a two-level bootstrap over seeds (training noise) and test groups or blocks of frames (test-set noise)."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidkd.base.errors import DataError

Level: TypeAlias = Literal["seeds", "groups"]
BOTH: tuple[Level, ...] = ("seeds", "groups")
NORMAL = 1.959963984540054
"""The 97.5 % quantile of the normal law."""
BLOCK = 50
"""Frames of a block, by default: longer than a person takes to change much, short enough for many in a stream."""
FEWEST_BLOCKS = 4
"""Blocks that a stretch is cut into at least: a short one takes shorter blocks, which say less of what lasts."""
FEWEST_STREAMS = 5
"""Streams from which some are drawn; fewer are all kept, for they say too little of others."""
CHUNK = 1000
"""Draws of frames that are worked out at once, for the memory that frames times draws take."""
Draws = NDArray[np.float64]


class Units(NamedTuple):
    """What is drawn in a test set: `number` groups, or (with a block) as many blocks of so many frames as cover `number` frames."""

    number: int
    block: int | None = None

    @property
    def drawn(self) -> int:
        """Groups or blocks in a draw."""
        return self.number if self.block is None else -(-self.number // self.block)


class Measured(Protocol):
    """A figure of one method with one seed on one test set (fold or stream), which follows from numbers of each of its units."""

    @property
    def seed(self) -> int:
        """Of the run."""

    @property
    def place(self) -> str:
        """Fold or stream."""

    @property
    def value(self) -> float:
        """Over all units."""

    @property
    def judged_on(self) -> NDArray[Any]:
        """Identity of the clips or frames: cells that are compared have the same."""

    @property
    def off(self) -> Draws | None:
        """(G,) how far the sums of the groups lie from the mean, as shares of all clips; None of frames, whose draws say it."""

    def units(self, block: int) -> Units:
        """What is drawn; block: frames of a block, of streams."""

    def of_draws(self, times_DU: Draws) -> Draws:
        """(D,) the figure where each group or frame counts so many times; NaN where it is not known of these."""


def name_of(cell: Measured) -> str:
    """`<seed>/<fold or stream>`, as in summary.json."""
    return f"{cell.seed}/{cell.place}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One trained model judged on one test set.

    correct: (N,) one score a clip, as a rule 0 or 1. group: (N,) names of the test groups (actor, UCF group, block of a stream): clips of
    one group are not independent. clip: (N,) names of the clips, by which pairs are checked; may be left out.
    """

    seed: int
    place: str
    correct: NDArray[np.float64]
    group: NDArray[np.str_]
    clip: NDArray[np.str_]

    def __init__(self, *, seed: int, place: str, correct: ArrayLike, group: ArrayLike, clip: ArrayLike = ()) -> None:
        scores, groups = np.asarray(correct, dtype=np.float64), np.asarray(group, dtype=np.str_)
        vars(self).update(seed=seed, place=place, correct=scores, group=groups, clip=np.asarray(clip, dtype=np.str_))
        if not len(scores) or not np.isfinite(scores).all():
            raise DataError("a cell needs a finite score of every clip, and at least one", cell=name_of(self))

    @property
    def value(self) -> float:
        """Mean score over clips (top-1 accuracy in [0, 1] for scores 0 and 1)."""
        return float(self.correct.mean())

    @property
    def judged_on(self) -> NDArray[Any]:
        """Its groups and clips."""
        return np.concatenate([self.group, self.clip])

    @functools.cached_property
    def _group_N(self) -> NDArray[np.int64]:  # noqa: N802 - the axis
        return np.unique(self.group, return_inverse=True)[1]

    @property
    def off(self) -> Draws | None:
        """As `Measured`."""
        return np.bincount(self._group_N, weights=self.correct - self.value) / len(self.correct)

    def units(self, block: int) -> Units:  # noqa: ARG002 - of streams
        """Its groups."""
        return Units(int(self._group_N.max()) + 1)

    def of_draws(self, times_DU: Draws) -> Draws:
        """(D,) mean score over the clips of the drawn groups."""
        return np.asarray((times_DU @ np.bincount(self._group_N, weights=self.correct)) / (times_DU @ np.bincount(self._group_N)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Difference:
    """A figure minus another of the same seed and place, on the same draws."""

    seed: int
    place: str
    value: float
    judged_on: NDArray[Any]
    off: Draws | None
    one: Measured
    other: Measured

    def units(self, block: int) -> Units:
        """Of both."""
        return self.one.units(block)

    def of_draws(self, times_DU: Draws) -> Draws:
        """(D,) the difference within each draw."""
        return self.one.of_draws(times_DU) - self.other.of_draws(times_DU)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over cells with its 95 % interval, None where it cannot be known, and `note` then says why. units: groups or blocks."""

    mean: float
    ci95: tuple[float, float] | None
    cells: int
    units: int
    note: str | None = None


def bootstrap_ci(
    cells: Sequence[Measured], *, draws: int = 10_000, seed: int = 0, over: tuple[Level, ...] = BOTH, block: int = BLOCK
) -> Interval:
    """Mean over cells (each cell counts alike) and the 95 % interval of a two-level bootstrap.

    A draw takes as many seeds as there are, with replacement, and within every fold as many of its groups as there are, or of a stream as
    many blocks of frames as cover it, each from a frame drawn at random and around its end. All seeds of a fold or stream see the same
    draws, for they were judged on the same test set. Folds are all kept, streams are drawn too where there are FEWEST_STREAMS. Cells may be
    missing. over: the levels drawn from; ("groups",) answers for other test clips with these very models, ("seeds",) for other seeds on
    these clips.

    With one seed, or a fold of one group or frame, at a level drawn from: ci95 is None. Groups are taken to be disjoint between folds; if
    folds share test clips (HMDB51) the interval is too narrow by what they share. Percentiles of draws are stretched about the mean for as
    few seeds and groups as there are (`stretched`). It lies within 0 and 1 where every value does.
    Raises DataError for no cells, a cell given twice, or seeds of one fold that were judged on different clips. Source: Davison & Hinkley
    1997 (sections 3.8 and 5.3), for crossed seeds and groups; circular blocks: Politis & Romano 1992.
    """
    return _interval(cells, draws, seed, over, block, lowest=0.0)


def paired_difference(
    cells: Sequence[Measured],
    others: Sequence[Measured],
    *,
    draws: int = 10_000,
    seed: int = 0,
    over: tuple[Level, ...] = BOTH,
    block: int = BLOCK,
) -> Interval:
    """Mean of `cells` minus `others`, paired on the same cell and the same clip or drawn block, with the interval of `bootstrap_ci`.

    Cells that only one side has are left out (an unfinished study); `.cells` says how many pairs there were.
    Raises DataError if no cell is on both sides, or a pair was not judged on the same clips in the same order.
    """
    there = {name_of(cell): cell for cell in others}
    pairs = [_difference(cell, there[name_of(cell)]) for cell in cells if name_of(cell) in there]
    if not pairs:
        raise DataError("no cell is on both sides of a comparison")
    return _interval(pairs, draws, seed, over, block, lowest=-1.0)


def _difference(one: Measured, other: Measured) -> Difference:
    _check_same(one, other)
    off = None if one.off is None or other.off is None else one.off - other.off
    value = one.value - other.value
    return Difference(seed=one.seed, place=one.place, value=value, judged_on=one.judged_on, off=off, one=one, other=other)


def _check_same(one: Measured, other: Measured) -> None:
    if not np.array_equal(one.judged_on, other.judged_on):
        raise DataError("cells that are compared were not judged on the same clips or frames", cells=f"{name_of(one)}, {name_of(other)}")


def _interval(cells: Sequence[Measured], draws: int, seed: int, over: tuple[Level, ...], block: int, *, lowest: float) -> Interval:
    """lowest: the least that a value can be, the most being 1; where one is beyond, a mean may be anything."""
    places, seeds = _by_place(cells), sorted({cell.seed for cell in cells})
    units = tuple(of_place[0].units(block) for of_place in places)
    values = [cell.value for cell in cells]
    mean = float(np.mean(values))
    note, ci95 = None, None
    if "seeds" in over and len(seeds) < 2:
        note = "no interval: one seed only"
    elif "groups" in over and (single := [of_place[0].place for of_place, unit in zip(places, units, strict=True) if unit.number < 2]):
        note = f"no interval: '{single[0]}' has one test group or frame only"
    else:
        means, of_places = _means(places, seeds, _drawn(len(seeds), units, draws, seed, over))
        ci95 = stretched(means, mean, half_width(_parts(places, seeds, mean, units, of_places, over)))
        if all(lowest <= value <= 1 for value in values):
            ci95 = max(lowest, ci95[0]), min(1.0, ci95[1])
    return Interval(mean=mean, ci95=ci95, cells=len(cells), units=sum(unit.drawn for unit in units), note=note)


def _by_place(cells: Sequence[Measured]) -> list[list[Measured]]:
    """Cells by fold or stream, checked: seeds of one share their clips, no cell is there twice."""
    if not cells:
        raise DataError("no cells to take an interval of")
    places: dict[str, dict[int, Measured]] = {}
    for cell in cells:
        known = places.setdefault(cell.place, {})
        if cell.seed in known:
            raise DataError("a cell is given twice", cell=name_of(cell))
        if known:
            _check_same(next(iter(known.values())), cell)
        known[cell.seed] = cell
    return [list(known.values()) for known in places.values()]


# draws


class _Drawn(NamedTuple):
    """How often each seed (draws, seeds) and place (draws, places) is drawn, and of each place, by chunks, each group or frame."""

    seeds: Draws
    places: Draws
    units: list[list[Draws]]


def _places_are_drawn(units: Sequence[Units]) -> bool:
    return units[0].block is not None and len(units) >= FEWEST_STREAMS


@functools.lru_cache(maxsize=4)
def _drawn(seeds: int, units: tuple[Units, ...], draws: int, seed: int, over: tuple[Level, ...]) -> _Drawn:
    """Kept, for all methods of a study and all their differences are asked on the same draws. Ones for a level that is not drawn from."""
    rng = np.random.default_rng(seed)

    def drawn(n: int, wanted: bool) -> Draws:
        return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64) if wanted else np.ones((draws, n))

    seeds_DS, places_DP = drawn(seeds, "seeds" in over), drawn(len(units), _places_are_drawn(units))
    times = []
    for count, block in units:
        if block is None:
            times.append([drawn(count, "groups" in over)])
        else:
            starts = rng.integers(0, count, (draws, -(-count // block)))
            times.append([_times(starts[first : first + CHUNK], block, count) for first in range(0, draws, CHUNK)])
    return _Drawn(seeds_DS, places_DP, times)


def _times(starts_DB: NDArray[np.int64], block: int, frames: int) -> Draws:
    """(D, F) how often each frame lies in the blocks of a draw, which begin at `starts` and go on around the end."""
    draws = len(starts_DB)
    rows = np.arange(draws)[:, None] * frames
    begins = np.bincount((starts_DB + rows).ravel(), minlength=draws * frames).reshape(draws, frames)
    before = np.take(begins, np.arange(1 - block, frames), axis=1, mode="wrap").cumsum(axis=1)
    around = np.concatenate([np.zeros((draws, 1), np.int64), before], axis=1)
    return np.asarray(around[:, block:] - around[:, :-block], np.float64)


def _means(places: Sequence[Sequence[Measured]], seeds: Sequence[int], drawn: _Drawn) -> tuple[Draws, list[Draws]]:
    """(draws,) means over the drawn seeds and places, and of each place over all its seeds."""
    draws = len(drawn.seeds)
    total, weight, of_places = np.zeros(draws), np.zeros(draws), []
    for number, of_place in enumerate(places):
        counts_DC = drawn.seeds[:, [seeds.index(cell.seed) for cell in of_place]] * drawn.places[:, [number]]
        found_DC = np.stack([np.concatenate([cell.of_draws(times) for times in drawn.units[number]]) for cell in of_place], axis=1)
        known_DC = ~np.isnan(found_DC)
        found_DC = np.where(known_DC, found_DC, 0)
        total += (counts_DC * found_DC).sum(axis=1)
        weight += (counts_DC * known_DC).sum(axis=1)
        known_D = known_DC.sum(axis=1)
        of_places.append(found_DC.sum(axis=1)[known_D > 0] / known_D[known_D > 0])
    return total[weight > 0] / weight[weight > 0], of_places


# widths


class Part(NamedTuple):
    """What one level or stratum adds to the variance of a mean, and on how many degrees of freedom the estimate has."""

    variance: float
    freedom: int


def _parts(
    places: Sequence[Sequence[Measured]],
    seeds: Sequence[int],
    mean: float,
    units: Sequence[Units],
    of_places: Sequence[Draws],
    over: tuple[Level, ...],
) -> list[Part]:
    """Of the interval of the mean over cells, from by how much each seed and each group or block lies off in it."""
    cells = [cell for of_place in places for cell in of_place]
    off = {name_of(cell): (cell.value - mean) / len(cells) for cell in cells}
    parts = []
    if "seeds" in over:
        parts.append(part_of(np.array([sum(off[name_of(cell)] for cell in cells if cell.seed == one) for one in seeds])))
    if "groups" in over and _places_are_drawn(units):
        parts.append(part_of(np.array([sum(off[name_of(cell)] for cell in of_place) for of_place in places])))
    elif "groups" in over:  # those of strata that are drawn from apart as one, taken to vary alike
        strata = [_part_of_place(*each, len(cells)) for each in zip(places, units, of_places, strict=True)]
        parts.append(Part(sum(part.variance for part in strata), sum(part.freedom for part in strata)))
    return parts


def _part_of_place(of_place: Sequence[Measured], units: Units, means: Draws, cells: int) -> Part:
    """What drawing the groups or blocks of one place adds. means: (draws,) of it alone."""
    if units.block is None:
        return part_of(np.sum([cell.off for cell in of_place if cell.off is not None], axis=0) / cells)
    variance = float(np.var(means * len(of_place) / cells)) if len(means) else 0.0
    return Part(variance * units.drawn / (units.drawn - 1), units.drawn - 1)


def part_of(off: Draws) -> Part:
    """The part of n seeds or groups: by how much each lies off in the mean, (n,), which sums to zero."""
    count = len(off)
    return Part(float(off @ off) * count / (count - 1), count - 1)


def student_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t of so many degrees of freedom, not only whole ones."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def factor_of(count: int) -> float:
    """How much further out than percentiles of draws of `count` groups, two or more, the ends of a 95 % interval lie."""
    return student_quantile(count - 1) / NORMAL * math.sqrt(count / (count - 1))


def half_width(parts: Sequence[Part]) -> float:
    """Of a 95 % interval of a mean: Student's quantile times the root of the parts together; the freedom is Satterthwaite's (1946).

    What falls to a seed and a group together is part of both, so of crossed levels the interval is on the safe side.
    """
    variance = sum(part.variance for part in parts)
    if variance <= 0:
        return 0.0
    freedom = variance**2 / sum(part.variance**2 / part.freedom for part in parts)
    return student_quantile(max(1.0, freedom)) * math.sqrt(variance)


def stretched(drawn: Draws, about: float, half: float) -> tuple[float, float]:
    """The 95 % percentiles of draws of a mean, stretched about it so that they are as far apart as an interval of this half width.

    Percentiles keep what is lopsided in draws, and are as near as those of the normal law, too near for a mean of few. After the expanded
    percentiles of Hesterberg 2015 (section 4.5), from memory; stretched, as of two or three groups no draw lies far enough out.
    """
    low, high = np.percentile(drawn, [2.5, 97.5])
    spread = NORMAL * float(np.std(drawn))
    factor = half / spread if spread > 0 else 1.0
    return about + float(low - about) * factor, about + float(high - about) * factor
