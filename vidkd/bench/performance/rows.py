"""What a part of the suite is given and what it measured: alternatives in turn, ratios within a round, medians with range."""

import functools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from vidkd.base.timing import timed
from vidkd.bench.performance.videos import CLIPS_A_SIZE, QUICK_CLIPS, SIZES, ClipSet, generated_set
from vidkd.bench.speed.rounds import interleave

Measured: TypeAlias = Callable[[], float]
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every part is given.

    scratch: folder for what the parts write. rounds: rounds that count. workers: loader processes.
    threads: threads of training. quick: as little as shows that everything runs.
    """

    scratch: Path
    rounds: int
    workers: int
    threads: int
    quick: bool

    @functools.cached_property
    def sets(self) -> list[ClipSet]:
        """Generated videos, a set of each size, the largest first."""
        clips = QUICK_CLIPS if self.quick else CLIPS_A_SIZE
        return [generated_set(self.scratch / "videos", *size, clips=clips) for size in SIZES]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one part measured, as in the results and on the page.

    settings: the conditions. values: rows of `value_row`. ratios: rows of `ratio_row`. notes: sentences, rivals left out among them.
    """

    title: str
    text: str
    settings: Mapping[str, str | int | float]
    values: list[Row] = field(default_factory=list)
    ratios: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def compare(
        self, alternatives: Mapping[str, Measured], unit: str, ratios: Iterable[tuple[str, str, str]] = (), *, rounds: int, where: str = ""
    ) -> dict[str, list[float]]:
        """Measure alternatives in turn, and add a row for each and for each of `ratios`: above, below, and the target ("" for none).

        where: added to all names. Returns what was measured, by name and round.
        """
        measured = interleave(alternatives, rounds=rounds)
        self.values.extend(value_row(f"{name}{where}", unit, found) for name, found in measured.items())
        self.ratios.extend(
            ratio_row(f"{above} / {below}{where}", measured[above], measured[below], target) for above, below, target in ratios
        )
        return measured


def milliseconds(call: Callable[[], object], calls: int = 1) -> float:
    """Mean milliseconds of so many calls, the first included."""
    return 1e3 * timed(lambda: [call() for _ in range(calls)]) / calls


def per_second(work: Callable[[], object], count: int) -> float:
    """Items a second of work that is `count` of them."""
    return count / timed(work)


def value_row(name: str, unit: str, values: Sequence[float], target: str = "") -> Row:
    """Median and range of the rounds of one alternative, to four digits; with a target (`<= 0.1`), whether the median meets it."""
    numbers = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    row: Row = {"name": name, "unit": unit, **{key: float(f"{value:.4g}") for key, value in numbers.items()}, "n": len(values)}
    if target:
        sign, bound = target.split()
        row |= {"target": target, "met": row["median"] <= float(bound) if sign == "<=" else row["median"] >= float(bound)}
    return row


def ratio_row(name: str, above: Sequence[float], below: Sequence[float], target: str = "") -> Row:
    """The same of the ratios `above` / `below` of each round."""
    return value_row(name, "", [a / b for a, b in zip(above, below, strict=True)], target)
