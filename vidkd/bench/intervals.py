"""95 % intervals of a study: a two-level bootstrap over seeds (training noise) and over test groups (test-set noise)."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidkd.base.errors import DataError
from vidkd.bench.widening import half_width, part_of, pooled, stretched

Level: TypeAlias = Literal["seeds", "groups"]
BOTH: tuple[Level, ...] = ("seeds", "groups")


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One trained model judged on one test set.

    correct: (N,) one score a clip, as a rule 0 or 1. group: (N,) names of the test groups (actor, UCF group, block of a stream): clips of
    one group are not independent. clip: (N,) names of the clips, by which pairs are checked; may be left out.
    """

    seed: int
    fold: str
    correct: NDArray[np.float64]
    group: NDArray[np.str_]
    clip: NDArray[np.str_] | None = None

    def __init__(self, *, seed: int, fold: str, correct: ArrayLike, group: ArrayLike, clip: ArrayLike | None = None) -> None:
        scores, groups = np.asarray(correct, dtype=np.float64), np.asarray(group, dtype=np.str_)
        names = None if clip is None else np.asarray(clip, dtype=np.str_)
        for field, value in (("seed", int(seed)), ("fold", str(fold)), ("correct", scores), ("group", groups), ("clip", names)):
            object.__setattr__(self, field, value)
        if scores.ndim != 1 or not len(scores) or groups.shape != scores.shape or (names is not None and names.shape != scores.shape):
            shapes = f"correct {scores.shape}, group {groups.shape}" + ("" if names is None else f", clip {names.shape}")
            raise DataError("a cell needs one score and one group a clip", cell=self.name, shapes=shapes)
        if not np.isfinite(scores).all():
            raise DataError("a cell has a score that is not a number", cell=self.name, clip=int(np.argmin(np.isfinite(scores))))

    @property
    def name(self) -> str:
        """`<seed>/<fold>`, as in summary.json."""
        return f"{self.seed}/{self.fold}"

    @property
    def mean(self) -> float:
        """Mean score over clips (top-1 accuracy in [0, 1] for scores 0 and 1)."""
        return float(self.correct.mean())


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over cells with its 95 % interval; ci95 is None where it cannot be known, and `note` then says why."""

    mean: float
    ci95: tuple[float, float] | None
    cells: int
    seeds: int
    groups: int
    clips: int
    note: str | None = None


def bootstrap_ci(cells: Sequence[Cell], *, draws: int = 10_000, seed: int = 0, over: tuple[Level, ...] = BOTH) -> Interval:
    """Mean over cells (each cell counts alike) and the 95 % interval of a two-level bootstrap.

    A draw takes as many seeds as there are, with replacement, and within every fold as many of its groups as there are, with replacement;
    all seeds of a fold see the same drawn groups, for they were judged on the same test set. Folds are all kept. Cells may be missing.
    over: the levels drawn from; ("groups",) answers for other test clips with these very models, ("seeds",) for other seeds on these clips.

    With one seed, or a fold of one group, at a level drawn from: ci95 is None. Groups are taken to be disjoint between folds; where folds
    share test clips (HMDB51) the interval is too narrow by what they share. Percentiles of draws are stretched about the mean for as few
    seeds and groups as there are (`vidkd.bench.widening`): of two groups alone the interval may hold all that is possible. It lies within 0
    and 1 where every score does.
    Raises DataError for no cells, a cell given twice, or seeds of one fold that were judged on different clips. Source: Davison & Hinkley
    1997 (sections 3.8 and 5.3), for crossed seeds and groups.
    """
    return _interval(cells, draws, seed, over, lowest=0.0)


def _interval(cells: Sequence[Cell], draws: int, seed: int, over: tuple[Level, ...], *, lowest: float) -> Interval:
    """lowest: the least that a score can be, the most being 1; where one is beyond, a mean may be anything."""
    folds = _folds(cells)
    seeds = sorted({cell.seed for cell in cells})
    mean = float(np.mean([cell.mean for cell in cells]))
    group_counts = [len(np.unique(fold[0].group)) for fold in folds]
    note = _why_unknown(len(seeds), folds, group_counts, over)
    ci95 = None
    if not note:
        drawn = _draw_means(folds, seeds, _times_drawn(len(seeds), tuple(group_counts), draws, seed, over))
        ci95 = stretched(drawn, mean, _half_width(folds, seeds, mean, over))
        if all(lowest <= cell.correct.min() and cell.correct.max() <= 1 for cell in cells):
            ci95 = max(lowest, ci95[0]), min(1.0, ci95[1])
    clips = sum(len(cell.correct) for cell in cells)
    return Interval(mean=mean, ci95=ci95, cells=len(cells), seeds=len(seeds), groups=sum(group_counts), clips=clips, note=note)


def paired_difference(
    cells: Sequence[Cell], against: Sequence[Cell], *, draws: int = 10_000, seed: int = 0, over: tuple[Level, ...] = BOTH
) -> Interval:
    """Mean of `cells` minus `against`, paired on the same cell and the same clip, with the interval of `bootstrap_ci`.

    Cells that only one side has are left out (an unfinished study); `.cells` says how many pairs there were.
    Raises DataError if no cell is on both sides, or a pair was not judged on the same clips in the same order.
    """
    others = {cell.name: cell for cell in against}
    pairs = [(cell, others[cell.name]) for cell in cells if cell.name in others]
    if not pairs:
        raise DataError("no cell is on both sides of a comparison", left=_names(cells), right=_names(against))
    differences = [_difference(cell, other) for cell, other in pairs]
    return _interval(differences, draws, seed, over, lowest=-1.0)


def _difference(cell: Cell, other: Cell) -> Cell:
    _check_same_clips(cell, other, "a pair was not judged on the same clips")
    return Cell(seed=cell.seed, fold=cell.fold, correct=cell.correct - other.correct, group=cell.group, clip=cell.clip)


def _check_same_clips(cell: Cell, other: Cell, what: str) -> None:
    same = np.array_equal(cell.group, other.group)
    if cell.clip is not None and other.clip is not None:
        same = same and np.array_equal(cell.clip, other.clip)
    if not same:
        cells = cell.name if cell.name == other.name else f"{cell.name} and {other.name}"
        raise DataError(what, cell=cells, clips=f"{len(cell.correct)} and {len(other.correct)}")


def _folds(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells by fold, checked: seeds of one fold share their clips, no cell is there twice."""
    if not cells:
        raise DataError("no cells to take an interval of")
    folds: dict[str, dict[int, Cell]] = {}
    for cell in cells:
        fold = folds.setdefault(cell.fold, {})
        if cell.seed in fold:
            raise DataError("a cell is given twice", cell=cell.name)
        if fold:
            _check_same_clips(next(iter(fold.values())), cell, "seeds of one fold were not judged on the same clips")
        fold[cell.seed] = cell
    return [list(fold.values()) for fold in folds.values()]


def _why_unknown(seeds: int, folds: Sequence[Sequence[Cell]], group_counts: Sequence[int], over: tuple[Level, ...]) -> str | None:
    if "seeds" in over and seeds < 2:
        return "no interval: one seed only"
    if "groups" in over and min(group_counts) < 2:
        return f"no interval: fold {folds[int(np.argmin(group_counts))][0].fold} has one test group only"
    return None


def _half_width(folds: Sequence[Sequence[Cell]], seeds: Sequence[int], mean: float, over: tuple[Level, ...]) -> float:
    """Of the interval of the mean over cells, from by how much each seed and each group lies off in it."""
    count = sum(len(fold) for fold in folds)
    parts, groups = [], []
    if "seeds" in over:
        off_S = np.zeros(len(seeds))
        for cell in (cell for fold in folds for cell in fold):
            off_S[seeds.index(cell.seed)] += (cell.mean - mean) / count
        parts.append(part_of(off_S))
    for fold in folds if "groups" in over else ():
        _, group_N = np.unique(fold[0].group, return_inverse=True)
        off_N = np.sum([cell.correct - cell.mean for cell in fold], axis=0)
        groups.append(part_of(np.bincount(group_N, weights=off_N) / (len(group_N) * count)))
    return half_width([*parts, *pooled(groups)])


def _draw_means(folds: Sequence[Sequence[Cell]], seeds: Sequence[int], times: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(draws,) means over cells, seeds and groups drawn anew each time. times: of `_times_drawn`."""
    times_DS, *of_folds = times
    total, weight = np.zeros(len(times_DS)), np.zeros(len(times_DS))
    for fold, times_DG in zip(folds, of_folds, strict=True):
        places = [seeds.index(cell.seed) for cell in fold]
        total += (_fold_means(fold, times_DG) * times_DS[:, places]).sum(axis=1)
        weight += times_DS[:, places].sum(axis=1)
    return total[weight > 0] / weight[weight > 0]


def _fold_means(fold: Sequence[Cell], times_DG: NDArray[np.float64]) -> NDArray[np.float64]:
    """(draws, cells of the fold) mean scores over the clips of the groups drawn."""
    names, group_N = np.unique(fold[0].group, return_inverse=True)
    clips_G = np.bincount(group_N, minlength=len(names))
    sums_SG = np.stack([np.bincount(group_N, weights=cell.correct, minlength=len(names)) for cell in fold])
    means: NDArray[np.float64] = (times_DG @ sums_SG.T) / (times_DG @ clips_G)[:, None]
    return means


@functools.lru_cache(maxsize=3)  # with two thousand groups, one takes 170 MB
def _times_drawn(seeds: int, groups: tuple[int, ...], draws: int, seed: int, over: tuple[Level, ...]) -> tuple[NDArray[np.float64], ...]:
    """How often each of n comes up among n drawn with replacement, (draws, n): of the seeds, then of the groups of each fold.

    Ones for a level that is not drawn from. Kept, for all methods of a study and all their differences are asked on the same ones.
    """
    rng = np.random.default_rng(seed)

    def drawn(n: int, level: Level) -> NDArray[np.float64]:
        return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64) if level in over else np.ones((draws, n))

    return (drawn(seeds, "seeds"), *(drawn(n, "groups") for n in groups))


def _names(cells: Sequence[Cell]) -> str:
    return ", ".join(cell.name for cell in cells) or "none"
