"""What a student that learns along a stream costs a frame, by the share of the frames that the oracle is asked about: arithmetic alone."""

from collections.abc import Sequence

from benchmarks.rounds import Row
from vidkd.bench.speed.statistics import Figure, median, ratio

SHARES = (0.02, 0.05, 0.1, 0.2)
"""Budgets that are told."""


def stream_cost(student: float, selector: float, update: float, oracle: float, share: float) -> float:
    """Cost a frame of a student that learns in step; update, oracle: of one call, made on this share of the frames."""
    return student + selector + share * (update + oracle)


def break_even(student: float, selector: float, update: float, share: float) -> float:
    """The oracle's cost a frame at which `stream_cost` is that of the oracle on every frame. Raises ValueError unless 0 <= share < 1."""
    if not 0 <= share < 1:
        raise ValueError(f"the share of calls must lie in [0, 1): {share}")
    return (student + selector + share * update) / (1 - share)


def budget_rows(
    name: str,
    *,
    student: Sequence[float],
    selector: Sequence[float],
    update: Sequence[float],
    oracle: Sequence[float],
    shares: Sequence[float] = SHARES,
) -> list[Row]:
    """A row for each share: milliseconds a frame, and how many times those of the student alone, with intervals over rounds.

    student, selector, update, oracle: milliseconds of a frame or a call, by round; costs and ratios are put together within a round.
    """
    rows = []
    for share in shares:
        parts = zip(student, selector, update, oracle, strict=True)
        costs = [[stream_cost(*each, share=share)] for each in parts]
        times = ratio(costs, [[each] for each in student])
        rows.append({"name": name, "share": share, "ms": _plain(median(costs)), "ratio": _plain(times), "n": times.n})
    return rows


def _plain(figure: Figure) -> Row:
    """The number and its interval to four digits; no interval of a few rounds."""
    bounds = None if figure.ci95 is None else [_digits(bound) for bound in figure.ci95]
    return {"value": _digits(figure.value), "ci95": bounds}


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
