"""95 % intervals of F1 along streams: blocks of frames, streams and seeds are drawn anew."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.bench.intervals import Interval

BLOCK = 50
"""Frames of a block, by default: longer than a person takes to change much, short enough for many in a stream."""

Draws = NDArray[np.float64]


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
    def f1(self) -> float:
        """Pooled over the frames, in [0, 1]; 1 where nothing is there and nothing was found."""
        return float(_f1(np.asarray([self.right.sum()]), np.asarray([self.wrong.sum()]), np.asarray([self.missed.sum()]))[0])

    def between(self, first: int, stop: int) -> "StreamCounts":
        """Frames first to stop - 1 alone."""
        which = slice(first, stop)
        return StreamCounts(seed=self.seed, stream=self.stream, right=self.right[which], wrong=self.wrong[which], missed=self.missed[which])


def f1_interval(cells: Sequence[StreamCounts], *, block: int = BLOCK, draws: int = 10_000, seed: int = 0) -> Interval:
    """Mean of F1 over cells (each counts alike) and its 95 % percentile interval.

    A draw takes seeds with replacement, streams with replacement, and of each stream as many blocks of `block` frames as cover it, each
    from a frame drawn anew, going on at the start beyond the end; all seeds of a stream see the same blocks. F1 is pooled over the drawn
    frames of a cell. One stream is kept: then the interval answers for other stretches of it, not for other streams.
    ci95 is None with one seed, or where a block is as long as a stream. `groups` counts blocks, `clips` frames. Raises DataError for no
    cell, one given twice, or seeds of a stream with unlike numbers of frames.
    Source: circular block bootstrap, Politis & Romano 1992; crossed levels as `vidkd.bench.intervals`.
    """
    return _interval(cells, [cell.f1 for cell in cells], lambda cell, starts: _drawn_f1(cell, starts, block), block, draws, seed)


def f1_difference(
    cells: Sequence[StreamCounts], against: Sequence[StreamCounts], *, block: int = BLOCK, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Mean over cells of F1 minus that of `against`, paired on seed, stream and drawn blocks, with the interval of `f1_interval`.

    Cells that one side lacks are left out. Raises DataError if no cell is on both sides or a pair has unlike numbers of frames.
    """
    others = {cell.name: cell for cell in against}
    both = [cell for cell in cells if cell.name in others]
    if not both:
        raise DataError("no cell of a stream is on both sides of a comparison")
    for cell in both:
        if len(cell.right) != len(others[cell.name].right):
            raise DataError("a pair was not judged on the same frames", cell=cell.name)

    def difference(cell: StreamCounts, starts: NDArray[np.int64]) -> Draws:
        return _drawn_f1(cell, starts, block) - _drawn_f1(others[cell.name], starts, block)

    return _interval(both, [cell.f1 - others[cell.name].f1 for cell in both], difference, block, draws, seed)


def _interval(
    cells: Sequence[StreamCounts],
    values: Sequence[float],
    drawn: Callable[[StreamCounts, NDArray[np.int64]], Draws],
    block: int,
    draws: int,
    seed: int,
) -> Interval:
    streams = _by_stream(cells)
    seeds = sorted({cell.seed for cell in cells})
    blocks = [-(-len(of_stream[0].right) // block) for of_stream in streams]
    note = _why_unknown(len(seeds), streams, blocks)
    ci95 = None
    if note is None:
        low, high = np.percentile(_means(streams, seeds, blocks, drawn, draws, np.random.default_rng(seed)), [2.5, 97.5])
        ci95 = (float(low), float(high))
    frames = sum(len(of_stream[0].right) for of_stream in streams)
    mean = float(np.mean(values))
    return Interval(mean=mean, ci95=ci95, cells=len(cells), seeds=len(seeds), groups=sum(blocks), clips=frames, note=note)


def _means(
    streams: Sequence[Sequence[StreamCounts]],
    seeds: Sequence[int],
    blocks: Sequence[int],
    drawn: Callable[[StreamCounts, NDArray[np.int64]], Draws],
    draws: int,
    rng: np.random.Generator,
) -> Draws:
    """(draws,) means over the drawn seeds and streams."""
    seeds_DS = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=draws)
    streams_DV = rng.multinomial(len(streams), np.full(len(streams), 1 / len(streams)), size=draws)
    total, weight = np.zeros(draws), np.zeros(draws)
    for place, of_stream in enumerate(streams):
        starts = rng.integers(0, len(of_stream[0].right), (draws, blocks[place]))
        for cell in of_stream:
            times = seeds_DS[:, seeds.index(cell.seed)] * streams_DV[:, place]
            total += times * drawn(cell, starts)
            weight += times
    return np.asarray(total[weight > 0] / weight[weight > 0])


def _drawn_f1(cell: StreamCounts, starts: NDArray[np.int64], block: int) -> Draws:
    """(draws,) F1 over the blocks that begin at `starts` (draws, blocks)."""
    right, wrong, missed = (_in_blocks(counts, block)[starts].sum(axis=1) for counts in (cell.right, cell.wrong, cell.missed))
    return _f1(right, wrong, missed)


def _in_blocks(counts: NDArray[np.int64], block: int) -> NDArray[np.int64]:
    """(F,) the sum of the `block` frames from each frame on, around the end."""
    around = np.concatenate([[0], np.cumsum(np.resize(counts, len(counts) + block - 1))])
    return np.asarray(around[block:] - around[:-block])


def _f1(right: NDArray[np.int64], wrong: NDArray[np.int64], missed: NDArray[np.int64]) -> Draws:
    whole = np.asarray(2 * right + wrong + missed, np.float64)
    return np.asarray(np.divide(2.0 * right, whole, out=np.ones_like(whole), where=whole > 0))


def _by_stream(cells: Sequence[StreamCounts]) -> list[list[StreamCounts]]:
    if not cells:
        raise DataError("no cells to take an interval of")
    streams: dict[str, dict[int, StreamCounts]] = {}
    for cell in cells:
        known = streams.setdefault(cell.stream, {})
        if cell.seed in known:
            raise DataError("a cell is given twice", cell=cell.name)
        if known and len(next(iter(known.values())).right) != len(cell.right):
            raise DataError("seeds of one stream were not judged on the same frames", cell=cell.name)
        known[cell.seed] = cell
    return [list(known.values()) for known in streams.values()]


def _why_unknown(seeds: int, streams: Sequence[Sequence[StreamCounts]], blocks: Sequence[int]) -> str | None:
    if seeds < 2:
        return "no interval: one seed only"
    if min(blocks) < 2:
        return f"no interval: stream {streams[int(np.argmin(blocks))][0].stream} is one block only"
    return None
