"""Intervals along streams: equal to drawing frames by hand, and right in cases that can be worked out."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from vidkd.base.errors import DataError
from vidkd.bench.streams import bootstrap
from vidkd.bench.streams.bootstrap import StreamCounts, block_of, stream_difference, stream_interval


def counts(seed: int = 0, stream: str = "a", frames: int = 37, quality: float = 0.6, draw: int = 0) -> StreamCounts:
    rng = np.random.default_rng(draw)
    right, wrong, missed = rng.binomial(4, quality, frames), rng.poisson(1, frames), rng.poisson(0.7, frames)
    return StreamCounts(seed=seed, stream=stream, right=right, wrong=wrong, missed=missed)


def constant(seed: int, right: int, wrong: int, missed: int, frames: int = 30, stream: str = "a") -> StreamCounts:
    columns = {"right": right, "wrong": wrong, "missed": missed}
    return StreamCounts(seed=seed, stream=stream, **{name: np.full(frames, value) for name, value in columns.items()})


def slow_f1(cell: StreamCounts, starts: np.ndarray, block: int) -> float:
    """Pool the frames of the drawn blocks one by one."""
    right = wrong = missed = 0
    for start in starts:
        for step in range(block):
            frame = (start + step) % len(cell.right)
            right, wrong, missed = right + cell.right[frame], wrong + cell.wrong[frame], missed + cell.missed[frame]
    return 2 * right / (2 * right + wrong + missed)


def slow_interval(cells, others, block: int, draws: int, seed: int) -> tuple[float, float]:
    """The same draws, in the same order, spelled out, and stretched to Student's width."""
    rng = np.random.default_rng(seed)
    seeds, streams = sorted({cell.seed for cell in cells}), list(dict.fromkeys(cell.stream for cell in cells))
    times_seed = rng.multinomial(len(seeds), [1 / len(seeds)] * len(seeds), size=draws)
    length = {cell.stream: len(cell.right) for cell in cells}
    blocks = {name: int(np.ceil(length[name] / block)) for name in streams}
    starts = {name: rng.integers(0, length[name], (draws, blocks[name])) for name in streams}

    def value_of(cell: StreamCounts, drawn: np.ndarray) -> float:
        return slow_f1(cell, drawn, block) - (0 if others is None else slow_f1(others[cell.name], drawn, block))

    values = np.array([[value_of(cell, starts[cell.stream][draw]) for cell in cells] for draw in range(draws)])
    times = np.array([[times_seed[draw, seeds.index(cell.seed)] for cell in cells] for draw in range(draws)])
    means = (values * times).sum(axis=1) / times.sum(axis=1)
    whole = np.array([cell.f1 - (0 if others is None else others[cell.name].f1) for cell in cells])
    of_seeds = np.array([sum(whole[k] - whole.mean() for k, cell in enumerate(cells) if cell.seed == one) for one in seeds]) / len(cells)
    variances, freedoms = [(of_seeds**2).sum() * len(seeds) / (len(seeds) - 1)], [len(seeds) - 1]
    strata = [
        np.var(values[:, [cell.stream == name for cell in cells]].sum(axis=1) / len(cells)) * blocks[name] / (blocks[name] - 1)
        for name in streams
    ]
    variances, freedoms = [*variances, sum(strata)], [*freedoms, sum(blocks[name] - 1 for name in streams)]
    freedom = sum(variances) ** 2 / sum(variance**2 / of for variance, of in zip(variances, freedoms, strict=True))
    factor = stats.t.ppf(0.975, freedom) * np.sqrt(sum(variances)) / (stats.norm.ppf(0.975) * means.std())
    low, high = whole.mean() + (np.percentile(means, [2.5, 97.5]) - whole.mean()) * factor
    return low, high


CELLS = [counts(0, "a", draw=1), counts(0, "b", 23, draw=2), counts(1, "a", draw=3), counts(1, "b", 23, draw=4)]
OTHERS = [counts(0, "a", draw=5), counts(0, "b", 23, draw=6), counts(1, "a", draw=7), counts(1, "b", 23, draw=8)]


@pytest.mark.parametrize("block", [1, 4, 5])
def test_the_interval_is_that_of_frames_drawn_one_by_one(block: int) -> None:
    found = stream_interval(CELLS, block=block, draws=60, seed=3)
    assert found.ci95 == pytest.approx(tuple(slow_interval(CELLS, None, block, 60, 3)))
    assert found.mean == pytest.approx(np.mean([cell.f1 for cell in CELLS]))
    assert (found.cells, found.seeds, found.clips) == (4, 2, 60)


def test_a_difference_is_paired_on_the_drawn_blocks() -> None:
    found = stream_difference(CELLS, OTHERS, block=5, draws=60, seed=3)
    assert found.ci95 == pytest.approx(tuple(slow_interval(CELLS, {cell.name: cell for cell in OTHERS}, 5, 60, 3)))
    same = stream_difference(CELLS, CELLS, block=5, draws=60)
    assert same.ci95 == (0.0, 0.0)


def test_cells_of_one_side_alone_are_left_out_of_a_difference() -> None:
    found = stream_difference(CELLS, OTHERS[:3], block=5, draws=20)
    assert found.cells == 3
    assert found.mean == pytest.approx(np.mean([mine.f1 - other.f1 for mine, other in zip(CELLS[:3], OTHERS[:3], strict=True)]))


def test_frames_that_are_all_alike_leave_no_doubt_but_that_of_seeds() -> None:
    alike = stream_interval([constant(0, 3, 1, 1), constant(1, 3, 1, 1)], block=10, draws=100)
    assert alike.ci95 == pytest.approx((0.75, 0.75))
    unlike = stream_interval([constant(0, 1, 0, 0), constant(1, 0, 1, 1)], block=10, draws=400)
    assert unlike.ci95 == (0.0, 1.0)  # a quarter of the draws takes either seed twice


def test_longer_blocks_widen_the_interval_of_a_stream_that_changes_slowly() -> None:
    good = np.repeat([4, 0, 4, 0, 4, 0], 20)
    cells = [StreamCounts(seed=seed, stream="a", right=good, wrong=4 - good, missed=4 - good) for seed in (0, 1)]

    def width(block: int) -> float:
        low, high = stream_interval(cells, block=block, draws=400).ci95
        return high - low

    assert width(20) > 2 * width(1)


def test_f1_of_an_empty_stretch_is_one_and_ranges_are_cut() -> None:
    assert constant(0, 0, 0, 0).f1 == 1.0
    cell = StreamCounts(seed=0, stream="a", right=np.array([1, 0, 2]), wrong=np.array([0, 1, 0]), missed=np.array([0, 0, 2]))
    assert cell.between(1, 3).f1 == pytest.approx(4 / 7)


def test_no_interval_with_one_seed_or_one_frame() -> None:
    single = stream_interval([counts()], block=5, draws=10)
    assert single.ci95 is None
    assert single.note == "no interval: one seed only"
    short = stream_interval([counts(0, frames=1), counts(1, frames=1)], draws=10)
    assert short.ci95 is None
    assert short.note == "no interval: stream a is one frame only"


def test_a_short_stretch_takes_shorter_blocks() -> None:
    assert [block_of(counts(frames=frames), 50) for frames in (1, 3, 41, 199, 200, 900)] == [1, 1, 10, 49, 50, 50]
    cells = [counts(0, frames=41), counts(1, frames=41, draw=1)]
    assert stream_interval(cells, block=50, draws=60, seed=3).ci95 == pytest.approx(tuple(slow_interval(cells, None, 10, 60, 3)))
    assert stream_interval(cells, block=50, draws=1).groups == 5


def test_many_draws_are_worked_out_in_parts_of_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stream_interval(CELLS, block=5, draws=60, seed=3)
    bootstrap._drawn.cache_clear()
    monkeypatch.setattr(bootstrap, "CHUNK", 7)
    assert stream_interval(CELLS, block=5, draws=60, seed=3).ci95 == pytest.approx(whole.ci95)
    bootstrap._drawn.cache_clear()


def test_what_came_of_draws_is_kept_for_these_alone() -> None:
    """Other draws at the place in memory where those lay are others."""
    cell = counts()
    for number in range(50):
        times = np.full((3, len(cell)), 0.0)
        times[:, number % len(cell)] = 1.0
        fresh = dataclasses.replace(cell)
        np.testing.assert_array_equal(cell.of_frames(times), fresh.of_frames(times))
        np.testing.assert_array_equal(cell.of_frames(times), fresh.of_frames(times.copy()))
        del times


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "no cells to take an interval of"),
        ([counts(), counts()], "given twice"),
        ([counts(0), counts(1, frames=36)], "not judged on the same frames"),
    ],
)
def test_cells_that_do_not_fit_are_refused(cells, message: str) -> None:
    with pytest.raises(DataError, match=message):
        stream_interval(cells)


def test_pairs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="no cell of a stream is on both sides"):
        stream_difference([counts()], [counts(stream="b")])
    with pytest.raises(DataError, match="not judged on the same frames"):
        stream_difference([counts()], [counts(frames=36)])
    with pytest.raises(DataError, match="three counts for every frame"):
        StreamCounts(seed=0, stream="a", right=np.zeros(3, int), wrong=np.zeros(2, int), missed=np.zeros(3, int))
