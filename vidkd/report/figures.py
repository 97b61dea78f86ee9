"""Figures of runs and studies by matplotlib, as SVG that takes its ink from the page, so that it reads by day and by night."""

import contextlib
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidkd.base.errors import require
from vidkd.engine.metrics import reliability
from vidkd.report.parts import Estimate, Figure, format_estimate, format_number, is_share

# Stand-ins, replaced by the page's colours in the SVG; the series colours read on light and dark alike.
INK, MUTED, RULE = "#0a0b0c", "#0a0b0d", "#0a0b0e"
_PAGE_COLOURS = {
    INK: "var(--ink, #1d2126)",
    MUTED: "var(--muted, #5f6873)",
    RULE: "var(--rule, #e2e4e7)",
}
SERIES = ("#3d7fb5", "#d98a2b", "#3f9d78", "#9a6fb5", "#c75a48", "#7f8a96")
WIDTH_IN = 4.6
MOST_POINTS = 300
MOST_BANDS = 4
MOST_NAMED_CLASSES = 25
LINES = ("o-", "s--", "^:")  # markers too: one for every round of the colours
NOT_LOSSES = {"step", "epoch", "split", "lr", "data_wait"}
Rows: TypeAlias = Sequence[Mapping[str, Any]]
Line: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.0,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@contextlib.contextmanager
def canvas(height_in: float = 3.0, width_in: float = WIDTH_IN) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure and its axes in the house style; draw and call `finish` inside the block. Raises MissingExtraError."""
    matplotlib = require("matplotlib", "report")
    figures = require("matplotlib.figure", "report")
    with matplotlib.rc_context(_STYLE):
        figure = figures.Figure(figsize=(width_in, height_in), layout="constrained")
        yield figure, figure.subplots()


def finish(drawing: Any, title: str, *, caption: str = "", wide: bool = False) -> Figure:
    """The report's figure of a matplotlib figure."""
    file = io.StringIO()
    with require("matplotlib", "report").rc_context({"svg.hashsalt": title}):  # ids of their own for every figure of a page
        drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return Figure(title=title, svg=page_svg(file.getvalue(), title), caption=caption, wide=wide)


def page_svg(svg: str, title: str) -> str:
    """Only the drawing of an SVG file: no prologue, no metadata, no addresses, sized by the page, in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    viewbox = re.search(r'viewBox="[^"]*"', opening)
    rest = re.sub(r'<g id="[^"]*"', "<g", rest.replace("xlink:href", "href"))
    for stand_in, colour in _PAGE_COLOURS.items():
        rest = rest.replace(stand_in, colour)
    return f'<svg {viewbox[0] if viewbox else ""} role="img" aria-label="{html.escape(title)}">{rest.strip()}'


def short(name: str, most: int = 28) -> str:
    """A name short enough for an axis."""
    return name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def training_curves(rows: Rows) -> list[Figure]:
    """Losses of the training rows and shares (top1, ...) of the others over the step; no figure for what no row has.

    rows: of metrics.jsonl, with "step" and "split"; long runs are drawn as means of MOST_POINTS spans. A loss of a single term is drawn
    once, and a single validation is a row of the table, not a curve.
    """
    train = [row for row in rows if row["split"] == "train"]
    splits = list(dict.fromkeys(str(row["split"]) for row in rows if row["split"] != "train"))
    others = {split: [row for row in rows if row["split"] == split] for split in splits}
    totals = [row.get("loss") for row in train]
    terms = [name for name in _names(train) if name not in NOT_LOSSES]
    losses = {name: _series(train, name) for name in terms if name == "loss" or [row.get(name) for row in train] != totals}
    shares = {
        f"{name}, {split}" if len(splits) > 1 else name: _series(of_split, name)
        for split, of_split in others.items()
        for name in _names(of_split)
        if is_share(name)
    }
    figures = [_curves(losses, "Training losses", "loss", percent=False)] if losses else []
    if any(len(steps) > 1 for steps, _ in shares.values()):
        title = splits[0].replace("val", "Validation") if len(splits) == 1 else "Validation"
        figures.append(_curves(shares, title, "%", percent=True))
    return figures


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, int | float)))


def _series(rows: Rows, name: str) -> Line:
    """Steps and values of a metric, thinned."""
    having = [row for row in rows if row.get(name) is not None]
    return thinned(*(np.array([row[key] for row in having], dtype=np.float64) for key in ("step", name)))


def thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> Line:
    """Of more than MOST_POINTS points the means of so many spans of neighbours; others unchanged."""
    if len(x) <= MOST_POINTS:
        return x, y
    spans = np.array_split(np.arange(len(x)), MOST_POINTS)
    return np.array([x[span].mean() for span in spans]), np.array([y[span].mean() for span in spans])


def _curves(lines: Mapping[str, Line], title: str, unit: str, *, percent: bool) -> Figure:
    with canvas(3.1) as (drawing, axes):
        for index, (name, (steps, values)) in enumerate(lines.items()):
            dotted = ":" if index >= len(SERIES) else "-"
            marker = "o" if len(steps) <= 40 else None
            axes.plot(steps, values * (100 if percent else 1), dotted, label=name, color=SERIES[index % len(SERIES)], marker=marker, ms=3)
        axes.set(xlabel="step", ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.margins(x=0.02)
        legend_above(drawing, len(lines))
        last = ", ".join(f"{name} {format_number(float(values[-1]), percent=percent)}" for name, (_, values) in lines.items())
        return finish(drawing, title, caption=f"Last values: {last}.")


def legend_above(drawing: Any, entries: int) -> None:
    """A legend over the axes, where there is more than one entry."""
    if entries > 1:
        columns = min(2 if entries == 4 else 3, entries)
        drawing.legend(loc="outside upper left", ncols=columns, fontsize=9, handlelength=1.4, columnspacing=1.2)


def seed_dots(values: Mapping[str, Mapping[str, float]], estimates: Mapping[str, Estimate], *, title: str, unit: str = "%") -> Figure:
    """For every method one dot a seed (the mean of its folds), the mean as a bar and its interval as a line.

    values: method -> cell ("<seed>/<fold>") -> number; estimates: method -> mean over cells and interval.
    """
    with canvas(_row_height(len(values))) as (drawing, axes):
        for row, (name, cells) in enumerate(values.items()):
            estimate, colour = estimates[name], SERIES[row % len(SERIES)]
            factor, dots = 100 if estimate.percent else 1, seed_means(cells)
            heights = row + np.linspace(-0.16, 0.16, len(dots)) if len(dots) > 1 else [row]  # equal dots are apart
            axes.scatter(dots * factor, heights, s=20, color=colour, alpha=0.65, linewidths=0)
            if len(dots) > 1:  # the mean of one seed is its dot
                _interval(axes, row, estimate, factor)
                axes.plot([estimate.value * factor], [row], "|", color=INK, ms=11, mew=2)
        _rows_axis(axes, [short(name) for name in values], [estimates[name] for name in values], unit)
        has_interval = any(estimate.ci95 for estimate in estimates.values())
        caption = "A dot is a seed; the bar is the mean" + (" with its 95 % interval." if has_interval else ".")
        return finish(drawing, title, caption=caption)


def seed_means(cells: Mapping[str, float]) -> NDArray[np.float64]:
    """(seeds,) means over the folds of each seed."""
    seeds = [cell.partition("/")[0] for cell in cells]
    return np.array(
        [np.mean([value for of, value in zip(seeds, cells.values(), strict=True) if of == seed]) for seed in dict.fromkeys(seeds)]
    )


def _interval(axes: Any, row: float, estimate: Estimate, factor: float) -> None:
    if estimate.ci95 is not None:
        axes.plot([bound * factor for bound in estimate.ci95], [row, row], color=INK, lw=1.3, solid_capstyle="butt")


def _row_height(rows: int) -> float:
    return 0.75 + 0.36 * max(rows, 2)


def _rows_axis(axes: Any, labels: Sequence[str], estimates: Sequence[Estimate], unit: str) -> None:
    """A row for every label, its number at the right end."""
    for row, estimate in enumerate(estimates):
        place, text = (1.03, row), format_estimate(estimate)[0]
        axes.annotate(text, place, xycoords=("axes fraction", "data"), va="center", color=INK, annotation_clip=False)
    bare_rows(axes, labels)
    axes.set_xlabel(unit)


def bare_rows(axes: Any, labels: Sequence[str]) -> None:
    """The vertical axis as a list of names, the first at the top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)


def paired_bars(pairs: Sequence[tuple[str, str, Estimate]], *, words: str) -> Figure:
    """Horizontal bars of paired differences (method, reference, difference), with intervals; a bar whose interval holds zero is pale.

    words: the metric's name for a reader.
    """
    estimates, bases = [estimate for *_, estimate in pairs], list(dict.fromkeys(base for _, base, _ in pairs))
    factor, points = (100, "percentage points") if estimates[0].percent else (1, "difference")
    with canvas(_row_height(len(pairs))) as (drawing, axes):
        for row, estimate in enumerate(estimates):
            sure = estimate.ci95 is not None and (estimate.ci95[0] > 0 or estimate.ci95[1] < 0)
            axes.barh(row, estimate.value * factor, height=0.5, color=SERIES[0], alpha=0.85 if sure else 0.3)
            _interval(axes, row, estimate, factor)
        axes.axvline(0, color=MUTED, lw=1)
        names = [short(method if len(bases) == 1 else f"{method} \N{MINUS SIGN} {base}", 36) for method, base, _ in pairs]
        _rows_axis(axes, names, estimates, f"{points} over {short(bases[0])}" if len(bases) == 1 else points)
        caption = (
            "Same seed, same fold, same clips. Lines are 95 % intervals; pale bars are differences whose interval holds zero or is unknown."
        )
        return finish(drawing, f"Paired differences in {words}", caption=caption)


def accuracy_by_condition(
    series: Mapping[str, Mapping[float, Estimate]], *, title: str, condition: str, unit: str = "%", evenly: bool = False
) -> Figure:
    """A line with its interval for every method over a numeric condition: share of labels, share of the action observed, calls.

    series: method -> value of the condition -> estimate. Bands of more than MOST_BANDS methods would hide each other: then intervals are
    lines, side by side, on a figure as wide as the page. evenly: values follow each other at equal distances, however far apart they are.
    """
    values = sorted({place for points in series.values() for place in points})
    places = np.arange(len(values)) if evenly else np.array(values)
    crowded = len(series) > MOST_BANDS
    offsets = np.linspace(-0.25, 0.25, len(series)) * min(np.diff(places), default=1.0) * crowded
    with canvas(4.2 if crowded else 3.1, 8.6 if crowded else WIDTH_IN) as (drawing, axes):
        for index, (name, points) in enumerate(series.items()):
            known = [value in points for value in values]
            _condition_line(
                axes, places[known] + offsets[index], [points[value] for value in values if value in points], name, index, crowded
            )
        axes.set(xlabel=condition, ylabel=unit)
        axes.set_xticks(places, [f"{value:g}" for value in values] if evenly else None)
        legend_above(drawing, len(series))
        caption = "Lines are 95 % intervals; methods are side by side at each value." if crowded else "Bands are 95 % intervals."
        return finish(drawing, title, caption=caption, wide=crowded)


def _condition_line(axes: Any, at: NDArray[np.float64], points: Sequence[Estimate], name: str, index: int, crowded: bool) -> None:
    colour, style = SERIES[index % len(SERIES)], LINES[index // len(SERIES) % len(LINES)]
    factor = 100 if all(point.percent for point in points) else 1
    axes.plot(at, [point.value * factor for point in points], style, ms=4, color=colour, label=short(name))
    known = [point.ci95 is not None for point in points]
    bounds = np.array([point.ci95 for point in points if point.ci95 is not None], dtype=np.float64).reshape(-1, 2) * factor
    if crowded:
        axes.vlines(at[known], bounds[:, 0], bounds[:, 1], color=colour, lw=1, alpha=0.7)
    else:
        axes.fill_between(at[known], bounds[:, 0], bounds[:, 1], color=colour, alpha=0.15, linewidth=0)


def confusion_figure(counts: ArrayLike, classes: Sequence[str]) -> Figure:
    """Confusion matrix (K, K) of counts, row = true class. Up to MOST_NAMED_CLASSES named, with its counts; beyond that as a picture."""
    counts = np.asarray(counts, dtype=np.int64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    named = len(classes) <= MOST_NAMED_CLASSES
    size = max(3.2, 0.36 * len(classes) + 1.6) if named else 4.2
    with canvas(min(size, 10.0), max(min(size + 0.4, 10.4), 4.4)) as (drawing, axes):
        colour = np.broadcast_to(np.array([0x3D, 0x7F, 0xB5, 0]) / 255, (*share.shape, 4)).copy()
        colour[..., 3] = share * 0.95
        axes.imshow(colour, interpolation="nearest", aspect="equal")
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
        axes.tick_params(labelbottom=named, labelleft=named, length=0, labelcolor=INK, labelsize=9)
        if named:
            names = [short(name, 20) for name in classes]
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(len(names)), names)
            for row, column in zip(*np.nonzero(counts), strict=True):
                ink = "#ffffff" if share[row, column] > 0.5 else INK
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=9, color=ink)
        axes.set(xlabel="predicted", ylabel="true")
        caption = "Counts of clips; the shade is the share of the true class." + _worst_confusions(counts, classes)
        return finish(drawing, "Confusion matrix", caption=caption, wide=named and len(classes) > 12)


def _worst_confusions(counts: NDArray[np.int64], classes: Sequence[str], most: int = 3) -> str:
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    places = [np.unravel_index(place, wrong.shape) for place in np.argsort(-wrong, axis=None, kind="stable")[:most]]
    texts = [f"{classes[row]} taken for {classes[column]} ({wrong[row, column]})" for row, column in places if wrong[row, column]]
    return f" Most frequent: {', '.join(texts)}." if texts else ""


def reliability_diagram(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> Figure:
    """Accuracy against confidence in equal bins, the bars' strength by the number of clips; the caption has the calibration error (ECE).

    The axis of confidence begins at the lowest bin that holds clips, at the latest in the middle: of few classes none is predicted with
    little confidence, and the half of the drawing where nothing can be is left out.
    confidence: (N,) probability of the predicted class in [0, 1]; correct: (N,) 0 or 1.
    """
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    found = reliability(confidence, correct, bins)
    lowest = min(found.number[0] / bins, 0.5)
    with canvas(3.1) as (drawing, axes):
        for place, clips, height in zip(found.number, found.clips, found.accuracy, strict=True):
            strength = 0.25 + 0.65 * clips / found.clips.max()
            axes.bar((place + 0.5) / bins, height, width=0.94 / bins, color=SERIES[0], alpha=strength, linewidth=0)
            axes.text((place + 0.5) / bins, height + 0.04, str(clips), ha="center", fontsize=8, color=MUTED)
        axes.plot([lowest, 1], [lowest, 1], "--", color=MUTED, lw=1)
        axes.plot(found.confidence, found.accuracy, "o", color=INK, ms=3)
        axes.set(xlim=(lowest, 1), ylim=(0, 1.12), xlabel="confidence", ylabel="accuracy")
        axes.tick_params(color=RULE)
        error, sure, right = (format_number(float(share), percent=True) for share in (found.error, confidence.mean(), correct.mean()))
        caption = (
            f"ECE {error} % over {bins} bins, {found.clips.sum()} clips. In the mean {sure} % sure and {right} % right. "
            "Numbers over the bars count clips; bars below the dashed line are clips of which the network is surer than right."
        )
        return finish(drawing, "Reliability", caption=caption)
