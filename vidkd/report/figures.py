"""The figures of a run and of a study, each a function of plain numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidkd.bench.summary import Paired
from vidkd.engine.metrics import reliability
from vidkd.report.drawing import INK, MUTED, RULE, SERIES, WIDTH_IN, canvas, finish, short
from vidkd.report.parts import Estimate, Figure, format_estimate, format_number, is_share

MOST_POINTS = 300
MOST_BANDS = 4
MOST_NAMED_CLASSES = 25
LINES = ("o-", "s--", "^:")  # markers too: one for every round of the colours
NOT_LOSSES = {"step", "epoch", "split", "lr", "data_wait"}


def training_curves(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Losses of the training rows and shares (top1, ...) of the others over the step; no figure for what no row has.

    rows: of metrics.jsonl, with "step" and "split"; long runs are drawn as means of MOST_POINTS spans.
    """
    train = [row for row in rows if row["split"] == "train"]
    others = [row for row in rows if row["split"] != "train"]
    losses = {name: _series(train, name) for name in _names(train) if name not in NOT_LOSSES and not _is_total_again(train, name)}
    splits = _splits(others)
    shares = {
        f"{name}, {split}" if len(splits) > 1 else name: _series(others, name, split)
        for split in splits
        for name in _names(others)
        if is_share(name)
    }
    figures = [_curves(losses, "Training losses", "loss", percent=False)] if losses else []
    drawn = {name: line for name, line in shares.items() if len(line[0])}
    worth_drawing = any(len(steps) > 1 for steps, _ in drawn.values())  # a single validation is a row of the table, not a curve
    title = splits[0].replace("val", "Validation") if len(splits) == 1 else "Validation"
    return figures + ([_curves(drawn, title, "%", percent=True)] if worth_drawing else [])


def _is_total_again(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a term is the whole loss, as with a single term of weight one."""
    return name != "loss" and all(name in row and "loss" in row and row[name] == row["loss"] for row in rows)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, int | float)))


def _splits(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(row["split"]) for row in rows))


def _series(rows: Sequence[Mapping[str, Any]], name: str, split: str | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of a metric, thinned to means of equally many neighbouring rows."""
    having = [row for row in rows if row.get(name) is not None and split in (None, row["split"])]
    steps, values = (np.array([row[key] for row in having], dtype=np.float64) for key in ("step", name))
    if len(steps) <= MOST_POINTS:
        return steps, values
    spans = np.array_split(np.arange(len(steps)), MOST_POINTS)
    return np.array([steps[span].mean() for span in spans]), np.array([values[span].mean() for span in spans])


def _curves(lines: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], title: str, unit: str, *, percent: bool) -> Figure:
    with canvas(3.1) as (drawing, axes):
        for index, (name, (steps, values)) in enumerate(lines.items()):
            dotted = ":" if index >= len(SERIES) else "-"
            marker = "o" if len(steps) <= 40 else None
            axes.plot(steps, values * (100 if percent else 1), dotted, label=name, color=SERIES[index % len(SERIES)], marker=marker, ms=3)
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel(unit)
        axes.margins(x=0.02)
        _legend_above(drawing, len(lines))
        return finish(drawing, title, caption=_last_values(lines, percent=percent))


def _last_values(lines: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], *, percent: bool) -> str:
    last = ", ".join(f"{name} {format_number(float(values[-1]), percent=percent)}" for name, (_, values) in lines.items())
    return f"Last values: {last}."


def _legend_above(drawing: Any, entries: int) -> None:
    if entries > 1:
        drawing.legend(
            loc="outside upper left", ncols=min(2 if entries == 4 else 3, entries), fontsize=9, handlelength=1.4, columnspacing=1.2
        )


def seed_dots(values: Mapping[str, Mapping[str, float]], estimates: Mapping[str, Estimate], *, title: str, unit: str = "%") -> Figure:
    """For every method one dot a seed (the mean of its folds), the mean as a bar and its interval as a line.

    values: method -> cell ("<seed>/<fold>") -> number; estimates: method -> mean over cells and interval.
    """
    with canvas(_row_height(len(values))) as (drawing, axes):
        for row, (name, cells) in enumerate(values.items()):
            estimate = estimates[name]
            factor, colour = 100 if estimate.percent else 1, SERIES[row % len(SERIES)]
            dots = np.array(list(_seed_means(cells).values())) * factor
            axes.scatter(dots, row + _spread(len(dots)), s=20, color=colour, alpha=0.65, linewidths=0)
            if len(dots) > 1:  # the mean of one seed is its dot
                _interval(axes, row, estimate, factor)
        _rows_axis(axes, [short(name) for name in values], [format_estimate(estimates[name])[0] for name in values], unit)
        has_interval = any(estimate.ci95 for estimate in estimates.values())
        return finish(
            drawing, title, caption="A dot is a seed; the bar is the mean" + (" with its 95 % interval." if has_interval else ".")
        )


def _seed_means(cells: Mapping[str, float]) -> dict[str, float]:
    by_seed: dict[str, list[float]] = {}
    for cell, value in cells.items():
        by_seed.setdefault(cell.split("/", 1)[0], []).append(value)
    return {seed: float(np.mean(numbers)) for seed, numbers in by_seed.items()}


def _spread(n: int) -> NDArray[np.float64]:
    """Small vertical offsets, always the same ones, that keep equal dots apart."""
    return np.linspace(-0.16, 0.16, n) if n > 1 else np.zeros(1)


def _interval(axes: Any, row: float, estimate: Estimate, factor: float) -> None:
    if estimate.ci95 is not None:
        axes.plot([bound * factor for bound in estimate.ci95], [row, row], color=INK, lw=1.3, solid_capstyle="butt")
    axes.plot([estimate.value * factor], [row], "|", color=INK, ms=11, mew=2)


def _row_height(rows: int) -> float:
    return 0.75 + 0.36 * max(rows, 2)


def _rows_axis(axes: Any, labels: Sequence[str], numbers: Sequence[str], unit: str) -> None:
    """A row for every label, its number at the right end."""
    for row, number in enumerate(numbers):
        axes.annotate(number, (1.03, row), xycoords=("axes fraction", "data"), va="center", color=INK, annotation_clip=False)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(unit)


def paired_bars(pairs: Sequence[Paired], *, metric: str, words: str = "") -> Figure:
    """Horizontal bars of the paired differences in one metric, with intervals; a bar whose interval holds zero is pale.

    words: the metric's name for a reader.
    """
    shown = [pair for pair in pairs if pair.metric == metric]
    percent = is_share(metric)
    factor = 100 if percent else 1
    estimates = [Estimate(value=pair.difference, ci95=pair.ci95, percent=percent, signed=True) for pair in shown]
    with canvas(_row_height(len(shown))) as (drawing, axes):
        for row, (pair, estimate) in enumerate(zip(shown, estimates, strict=True)):
            sure = pair.ci95 is not None and (pair.ci95[0] > 0 or pair.ci95[1] < 0)
            axes.barh(row, pair.difference * factor, height=0.5, color=SERIES[0], alpha=0.85 if sure else 0.3)
            if estimate.ci95 is not None:
                axes.plot([bound * factor for bound in estimate.ci95], [row, row], color=INK, lw=1.3)
        axes.axvline(0, color=MUTED, lw=1)
        bases = list(dict.fromkeys(pair.reference for pair in shown))
        names = [short(pair.method if len(bases) == 1 else f"{pair.method} \N{MINUS SIGN} {pair.reference}", 36) for pair in shown]
        unit = f"{_points(percent)} over {short(bases[0])}" if len(bases) == 1 else _points(percent)
        _rows_axis(axes, names, [format_estimate(estimate)[0] for estimate in estimates], unit)
        caption = (
            "Same seed, same fold, same clips. Lines are 95 % intervals; pale bars are differences whose interval holds zero or is unknown."
        )
        return finish(drawing, f"Paired differences in {words or metric}", caption=caption)


def _points(percent: bool) -> str:
    return "percentage points" if percent else "difference"


def accuracy_by_condition(
    series: Mapping[str, Mapping[float, Estimate]], *, title: str, condition: str, unit: str = "%", evenly: bool = False
) -> Figure:
    """A line with its interval for every method over a numeric condition: share of labels, share of the action observed, calls.

    series: method -> value of the condition -> estimate. Bands of more than MOST_BANDS methods would hide each other: then intervals are
    lines, side by side, on a figure as wide as the page. evenly: values stand one after another, however far apart they are.
    """
    values = sorted({place for points in series.values() for place in points})
    places = list(map(float, range(len(values)))) if evenly else values
    at = dict(zip(values, places, strict=True))
    crowded = len(series) > MOST_BANDS
    beside = _beside(places, len(series)) if crowded else np.zeros(len(series))
    with canvas(4.2 if crowded else 3.1, 8.6 if crowded else WIDTH_IN) as (drawing, axes):
        for index, (name, points) in enumerate(series.items()):
            placed = {at[value]: found for value, found in points.items()}
            _condition_line(axes, placed, name, index, offset=beside[index], crowded=crowded)
        axes.set_xlabel(condition)
        axes.set_ylabel(unit)
        axes.set_xticks(places, [f"{value:g}" for value in values] if evenly else None)
        _legend_above(drawing, len(series))
        caption = "Lines are 95 % intervals; methods stand side by side at each value." if crowded else "Bands are 95 % intervals."
        return finish(drawing, title, caption=caption, wide=crowded)


def _beside(places: Sequence[float], count: int) -> NDArray[np.float64]:
    """Offsets that set `count` methods side by side within half the smallest step between places."""
    step = min(np.diff(places), default=1.0)
    return np.linspace(-0.25, 0.25, count) * step


def _condition_line(axes: Any, points: Mapping[float, Estimate], name: str, index: int, *, offset: float, crowded: bool) -> None:
    places, colour = sorted(points), SERIES[index % len(SERIES)]
    factor = 100 if all(points[place].percent for place in places) else 1
    style = LINES[index // len(SERIES) % len(LINES)]
    at = np.array(places) + offset
    axes.plot(at, [points[place].value * factor for place in places], style, ms=4, color=colour, label=short(name))
    known = [number for number, place in enumerate(places) if points[place].ci95 is not None]
    bounds = np.array([points[places[number]].ci95 for number in known], dtype=np.float64).reshape(-1, 2) * factor
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
        _name_classes(axes, classes) if named else axes.tick_params(labelbottom=False, labelleft=False, length=0)
        if named:
            _write_counts(axes, counts, share)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        caption = "Counts of clips; the shade is the share of the true class." + _worst_confusions(counts, classes)
        return finish(drawing, "Confusion matrix", caption=caption, wide=named and len(classes) > 12)


def _name_classes(axes: Any, classes: Sequence[str]) -> None:
    names = [short(name, 20) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)


def _write_counts(axes: Any, counts: NDArray[np.int64], share: NDArray[np.float64]) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "#ffffff" if share[row, column] > 0.5 else INK
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=9, color=colour)


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
