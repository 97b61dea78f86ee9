"""Rows of alternatives that were measured in turn: ratios within a round, medians with range."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidkd.bench.speed.rounds import interleave

__all__ = ["Measured", "Part", "Row", "interleave", "ratio_row", "spread", "value_row"]

Measured = Callable[[], float]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one part measured, as it stands in the results and on the page.

    settings: the conditions. values: rows of `value_row`. ratios: rows of `ratio_row`. notes: sentences, rivals left out among them.
    budgets: rows of `benchmarks.stream_costs.budget_rows`.
    """

    title: str
    text: str
    settings: Mapping[str, str | int | float]
    values: Sequence[Row]
    ratios: Sequence[Row] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    budgets: Sequence[Row] = ()


def value_row(name: str, unit: str, values: Sequence[float], *, at_most: float | None = None) -> Row:
    """Median and range of the rounds of one alternative; with a bound, whether the median keeps it."""
    row = {"name": name, "unit": unit, **spread(values)}
    return row if at_most is None else {**row, "target": f"<= {at_most:g}", "met": row["median"] <= at_most}


def ratio_row(
    name: str, above: Sequence[float], below: Sequence[float], *, at_least: float | None = None, at_most: float | None = None
) -> Row:
    """Median and range of the ratios `above` / `below` of each round; with a bound, whether the median keeps it."""
    row = {"name": name, **spread([a / b for a, b in zip(above, below, strict=True)])}
    if at_least is not None:
        row |= {"target": f">= {at_least:g}", "met": row["median"] >= at_least}
    if at_most is not None:
        row |= {"target": f"<= {at_most:g}", "met": row["median"] <= at_most}
    return row


def spread(values: Sequence[float]) -> Row:
    """Median, smallest, largest and number, to four digits. Raises ValueError without values."""
    if not values:
        raise ValueError("no values to summarise")
    numbers = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {**{name: float(f"{value:.4g}") for name, value in numbers.items()}, "n": len(values)}
