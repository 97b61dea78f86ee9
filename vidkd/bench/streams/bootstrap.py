"""95 % intervals of figures along streams: blocks of frames, streams and seeds are drawn anew."""

import functools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.bench.intervals import Interval
from vidkd.bench.widening import Part, half_width, part_of, pooled, stretched
from vidkd.detection.metrics.matching import pooled_f1

BLOCK = 50
"""Frames of a block, by default: longer than a person takes to change much, short enough for many in a stream."""

FEWEST = 4
"""Blocks that a stretch is cut into at least: one that is shorter than as many takes shorter blocks, which tells less of what lasts."""

FEWEST_STREAMS = 5
"""Streams from which some are drawn; fewer are all kept, for they say too little of others."""

CHUNK = 1000
"""Draws that are worked out at once, for the memory that frames times draws take."""

Draws = NDArray[np.float64]


class Measured(Protocol):
    """A figure of one method with one seed along one stream, which follows from numbers of each of its frames."""

    @property
    def seed(self) -> int:
        """Of the run."""
        ...

    @property
    def stream(self) -> str:
        """Its name."""
        ...

    @property
    def spacing(self) -> float:
        """Frames of the stream from one that is counted to the next."""
        ...

    @property
    def value(self) -> float:
        """Over all frames."""
        ...

    def __len__(self) -> int: ...

    def of_frames(self, times_DF: Draws) -> Draws:
        """(D,) over the frames, each counted so many times; NaN where it is not known of these."""
        ...


def name_of(cell: Measured) -> str:
    """`<seed>/<stream>`, as in summary.json."""
    return f"{cell.seed}/{cell.stream}"


def block_of(cell: Measured, block: int) -> int:
    """Frames of a drawn block, of those that are counted: as many as `block` frames of the stream hold, fewer in a short stretch."""
    return min(max(1, round(block / cell.spacing)), max(1, len(cell) // FEWEST))


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamCounts:
    """One method with one seed along one stream: right, wrong, missed are (F,) int64 boxes of each frame, in the stream's order."""

    seed: int
    stream: str
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    missed: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not self.right.shape == self.wrong.shape == self.missed.shape or self.right.ndim != 1 or not len(self.right):
            shapes = f"{self.right.shape}, {self.wrong.shape}, {self.missed.shape}"
            raise DataError("a cell of a stream needs three counts for every frame", cell=self.name, shapes=shapes)

    @property
    def name(self) -> str:
        """`<seed>/<stream>`, as in summary.json."""
        return f"{self.seed}/{self.stream}"

    @property
    def spacing(self) -> float:
        """Every frame is counted."""
        return 1.0

    @property
    def value(self) -> float:
        """F1."""
        return self.f1

    def of_frames(self, times_DF: Draws) -> Draws:
        """F1 pooled over the frames. What came of draws is kept as long as they are, for every comparison asks for the same ones."""
        kept = self._kept.get(id(times_DF))
        if kept is None or kept[0]() is not times_DF:
            kept = self._kept[id(times_DF)] = weakref.ref(times_DF), pooled_f1(*(times_DF @ self._counts_FN).T)
        return kept[1]

    @functools.cached_property
    def _kept(self) -> "dict[int, tuple[weakref.ref[Draws], Draws]]":
        return {}

    @functools.cached_property
    def _counts_FN(self) -> Draws:  # noqa: N802 - the axes
        """All three at once, so that draws are walked over once; whole numbers, which are exact in any order."""
        return np.stack([self.right, self.wrong, self.missed], axis=1).astype(np.float64)

    def __len__(self) -> int:
        return len(self.right)

    @property
    def f1(self) -> float:
        """Pooled over the frames, in [0, 1]; 1 where nothing is there and nothing was found."""
        return float(pooled_f1(self.right.sum(), self.wrong.sum(), self.missed.sum()))

    def between(self, first: int, stop: int) -> "StreamCounts":
        """Frames first to stop - 1 alone."""
        which = slice(first, stop)
        return StreamCounts(seed=self.seed, stream=self.stream, right=self.right[which], wrong=self.wrong[which], missed=self.missed[which])


def stream_interval(cells: Sequence[Measured], *, block: int = BLOCK, draws: int = 10_000, seed: int = 0) -> Interval:
    """Mean of a figure over cells (each counts alike) and its 95 % interval.

    A draw takes seeds with replacement, streams with replacement where there are FEWEST_STREAMS, and of each stream as many blocks of
    `block_of` frames as cover it, each from a frame drawn anew, going on at the start beyond the end; all seeds of a stream see the same
    blocks. The figure is that of the drawn frames of a cell. Where all streams are kept the interval answers for other stretches of them,
    not for other streams. Percentiles are stretched about the mean for as few seeds and blocks as there are, or streams where these are
    drawn (`vidkd.bench.widening`).
    ci95 is None with one seed, or where a stream is one frame. `groups` counts blocks, `clips` frames. Raises DataError for no cell, one
    given twice, or seeds of a stream with unlike numbers of frames.
    Source: circular block bootstrap, Politis & Romano 1992; crossed levels as `vidkd.bench.intervals`.
    """
    return _interval(cells, [cell.value for cell in cells], lambda cell, times: cell.of_frames(times), block, draws, seed, lowest=0.0)


def stream_difference(
    cells: Sequence[Measured], against: Sequence[Measured], *, block: int = BLOCK, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Mean over cells of a figure minus that of `against`, paired on seed, stream and drawn blocks, with the interval of `stream_interval`.

    Cells that one side lacks are left out. Raises DataError if no cell is on both sides or a pair has unlike numbers of frames.
    """
    others = {name_of(cell): cell for cell in against}
    both = [cell for cell in cells if name_of(cell) in others]
    if not both:
        raise DataError("no cell of a stream is on both sides of a comparison")
    for cell in both:
        if len(cell) != len(others[name_of(cell)]):
            raise DataError("a pair was not judged on the same frames", cell=name_of(cell))

    def difference(cell: Measured, times: Draws) -> Draws:
        return cell.of_frames(times) - others[name_of(cell)].of_frames(times)

    return _interval(both, [cell.value - others[name_of(cell)].value for cell in both], difference, block, draws, seed, lowest=-1.0)


def _interval(
    cells: Sequence[Measured],
    values: Sequence[float],
    drawn: Callable[[Measured, Draws], Draws],
    block: int,
    draws: int,
    seed: int,
    *,
    lowest: float,
) -> Interval:
    """lowest: the least that a value can be, the most being 1; where one is beyond, so may be the interval."""
    streams = _by_stream(cells)
    seeds = sorted({cell.seed for cell in cells})
    lengths = [block_of(of_stream[0], block) for of_stream in streams]
    note = _why_unknown(len(seeds), streams)
    blocks = [-(-len(of_stream[0]) // length) for of_stream, length in zip(streams, lengths, strict=True)]
    mean = float(np.mean(values))
    ci95 = None
    if note is None:
        means, of_blocks = _means(streams, seeds, lengths, drawn, draws, seed)
        off = {name_of(cell): (value - mean) / len(cells) for cell, value in zip(cells, values, strict=True)}
        parts = [part_of(np.array([sum(off[name_of(cell)] for cell in cells if cell.seed == one) for one in seeds]))]
        if _are_drawn(len(streams)):
            parts.append(part_of(np.array([sum(off[name_of(cell)] for cell in of_stream) for of_stream in streams])))
        else:
            shares = [len(of_stream) / len(cells) for of_stream in streams]
            parts += pooled([_part_of_blocks(*each) for each in zip(of_blocks, shares, blocks, strict=True)])
        ci95 = stretched(means, mean, half_width(parts))
        if all(lowest <= value <= 1 for value in values):
            ci95 = max(lowest, ci95[0]), min(1.0, ci95[1])
    frames = sum(len(of_stream[0]) for of_stream in streams)
    return Interval(mean=mean, ci95=ci95, cells=len(cells), seeds=len(seeds), groups=sum(blocks), clips=frames, note=note)


def _means(
    streams: Sequence[Sequence[Measured]],
    seeds: Sequence[int],
    lengths: Sequence[int],
    drawn: Callable[[Measured, Draws], Draws],
    draws: int,
    seed: int,
) -> tuple[Draws, list[Draws]]:
    """(draws,) means over the drawn seeds and streams, and of each stream over all its seeds. lengths: frames of a block of each stream."""
    seeds_DS, streams_DV, times = _drawn(len(seeds), tuple(len(of_stream[0]) for of_stream in streams), tuple(lengths), draws, seed)
    total, weight, of_blocks = np.zeros(draws), np.zeros(draws), []
    for place, of_stream in enumerate(streams):
        first, alone, known_of = 0, np.zeros(draws), np.zeros(draws)
        for times_DF in times[place]:
            part = slice(first, first + len(times_DF))
            first = part.stop
            for cell in of_stream:
                found = drawn(cell, times_DF)
                known = ~np.isnan(found)
                counts = seeds_DS[part, seeds.index(cell.seed)] * streams_DV[part, place] * known
                total[part] += counts * np.where(known, found, 0)
                weight[part] += counts
                alone[part] += np.where(known, found, 0)
                known_of[part] += known
        of_blocks.append(alone[known_of > 0] / known_of[known_of > 0])
    return np.asarray(total[weight > 0] / weight[weight > 0]), of_blocks


def _part_of_blocks(means: Draws, share: float, blocks: int) -> Part:
    """What drawing the blocks of one stream adds to the mean, in which the stream's figure has this share. means: (draws,) of it alone."""
    told = float(np.var(share * means)) if len(means) else 0.0
    return Part(variance=told * blocks / (blocks - 1), freedom=blocks - 1)


def _are_drawn(streams: int) -> bool:
    return streams >= FEWEST_STREAMS


@functools.lru_cache(maxsize=8)
def _drawn(
    seeds: int, frames: tuple[int, ...], lengths: tuple[int, ...], draws: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[list[Draws]]]:
    """How often each seed (draws, seeds) and stream (draws, streams) is drawn, and of each stream in chunks how often each frame is.

    Kept, for all methods of a study and all their differences are asked on the same ones. frames, lengths: of each stream and its blocks.
    """
    rng = np.random.default_rng(seed)
    seeds_DS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    count = len(frames)
    streams_DV = rng.multinomial(count, np.full(count, 1 / count), size=draws) if _are_drawn(count) else np.ones((draws, count), np.int64)
    times = []
    for length_of, length in zip(frames, lengths, strict=True):
        starts = rng.integers(0, length_of, (draws, -(-length_of // length)))
        times.append([_times(starts[first : first + CHUNK], length, length_of) for first in range(0, draws, CHUNK)])
    return seeds_DS, streams_DV, times


def _times(starts_DB: NDArray[np.int64], block: int, frames: int) -> Draws:
    """(D, F) how often each frame lies in the blocks of a draw, which begin at `starts` and go on around the end."""
    draws = len(starts_DB)
    rows = np.arange(draws)[:, None] * frames
    begins = np.bincount((starts_DB + rows).ravel(), minlength=draws * frames).reshape(draws, frames)
    before = np.take(begins, np.arange(1 - block, frames), axis=1, mode="wrap").cumsum(axis=1)
    around = np.concatenate([np.zeros((draws, 1), np.int64), before], axis=1)
    return np.asarray(around[:, block:] - around[:, :-block], np.float64)


def _by_stream(cells: Sequence[Measured]) -> list[list[Measured]]:
    if not cells:
        raise DataError("no cells to take an interval of")
    streams: dict[str, dict[int, Measured]] = {}
    for cell in cells:
        known = streams.setdefault(cell.stream, {})
        if cell.seed in known:
            raise DataError("a cell is given twice", cell=name_of(cell))
        if known and len(next(iter(known.values()))) != len(cell):
            raise DataError("seeds of one stream were not judged on the same frames", cell=name_of(cell))
        known[cell.seed] = cell
    return [list(known.values()) for known in streams.values()]


def _why_unknown(seeds: int, streams: Sequence[Sequence[Measured]]) -> str | None:
    if seeds < 2:
        return "no interval: one seed only"
    for of_stream in streams:
        if len(of_stream[0]) < 2:
            return f"no interval: stream {of_stream[0].stream} is one frame only"
    return None
