"""Figures of a benchmark: what accuracy costs, with the Pareto front, and where the time goes between file and answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidkd.report.drawing import INK, MUTED, SERIES, canvas, finish, log_scale, short
from vidkd.report.figures import bare_rows
from vidkd.report.parts import Estimate, Figure, format_number

MARKERS = "os^DvP*X<>"
WIDE_RANGE = 20
"""Costs that lie further apart than so many times are drawn on a logarithmic axis."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A model: what it costs, of which less is better, and what it gains, of which more is."""

    label: str
    cost: Estimate
    gain: Estimate


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats: none costs at most as much and gains at least as much, and one of the two is better. Rising cost."""
    points = list(points)

    def beats(one: Point, other: Point) -> bool:
        cost, gain = one.cost.value - other.cost.value, one.gain.value - other.gain.value
        return cost <= 0 <= gain and (cost, gain) != (0, 0)

    left = [point for point in points if not any(beats(other, point) for other in points)]
    return sorted(left, key=lambda point: (point.cost.value, point.gain.value))


def pareto_figure(points: Sequence[Point], *, title: str, cost: str, gain: str, styles: Mapping[str, int], caption: str = "") -> Figure:
    """A point with its intervals for every model, and the front as a line.

    cost, gain: words of the axes, with units. styles: number of each model's colour and marker, so that all figures of a page agree.
    """
    with canvas(3.5) as (drawing, axes):
        upon: dict[tuple[Estimate, Estimate], list[Point]] = {}
        for point in points:  # those at one place are one, with all their names
            upon.setdefault((point.cost, point.gain), []).append(point)
        for place in upon.values():
            _draw(axes, place[0], styles[place[0].label], ", ".join(point.label for point in place))
        front = pareto_front(points)
        factor = _factor(front[0].gain)
        at, height = [each.cost.value for each in front], [each.gain.value * factor for each in front]
        axes.plot(at, height, color=MUTED, lw=1.2, ls="--", zorder=1, drawstyle="steps-post")
        costs = [point.cost.value for point in points if point.cost.value > 0]
        if costs and max(costs) > WIDE_RANGE * min(costs):
            log_scale(axes, "x")
        axes.set(xlabel=cost, ylabel=gain)
        axes.margins(0.08)
        drawing.legend(loc="outside upper left", ncols=min(3, len(points)), fontsize=9, handlelength=1.0, columnspacing=1.2)
        names = ", ".join(each.label for each in front)
        words = f"On the front, which none beats in both: {names}. Lines are 95 % intervals."
        return finish(drawing, title, caption=f"{words} {caption}".strip())


def _draw(axes: Any, point: Point, style: int, names: str) -> None:
    colour, marker = SERIES[style % len(SERIES)], MARKERS[style // len(SERIES) % len(MARKERS)]
    factor = _factor(point.gain)
    at, height = point.cost.value, point.gain.value * factor
    if point.cost.ci95 is not None:
        axes.plot(point.cost.ci95, [height, height], color=colour, lw=1.3)
    if point.gain.ci95 is not None:
        axes.plot([at, at], [bound * factor for bound in point.gain.ci95], color=colour, lw=1.3)
    axes.plot([at], [height], marker, color=colour, ms=7, alpha=0.8, label=short(names))


def _factor(estimate: Estimate) -> int:
    return 100 if estimate.percent else 1


def parts_figure(parts: Mapping[str, Mapping[str, float]], *, order: Iterable[str], title: str, unit: str, caption: str = "") -> Figure:
    """A bar for every model, of its parts one behind the other, with their sum at its end.

    parts: model -> part -> how much. order: of the parts; those that no model has are left out.
    """
    names = [name for name in order if any(name in of_model for of_model in parts.values())]
    with canvas(0.9 + 0.36 * max(len(parts), 2)) as (drawing, axes):
        ends = np.zeros(len(parts))
        for index, name in enumerate(names):
            widths = np.array([of_model.get(name, 0.0) for of_model in parts.values()])
            axes.barh(range(len(parts)), widths, left=ends, height=0.55, color=SERIES[index % len(SERIES)], label=name, alpha=0.85)
            ends += widths
        for row, end in enumerate(ends):
            axes.annotate(format_number(float(end)), (end, row), xytext=(5, 0), textcoords="offset points", va="center", color=INK)
        bare_rows(axes, [short(label) for label in parts])
        axes.set(xlim=(0, 1.15 * max(ends.max(), 1e-9)), xlabel=unit)
        drawing.legend(loc="outside upper left", ncols=len(names), fontsize=9, handlelength=1.0, columnspacing=1.2)
        return finish(drawing, title, caption=caption)
