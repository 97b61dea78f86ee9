"""The report of a study, of classifiers or along streams, from its summary: one long table, and the tables and figures made of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vidkd.base.errors import require
from vidkd.base.progress import duration
from vidkd.bench.streams.summary import by_method_and_share
from vidkd.bench.summary import AREA, CONDITION_PARAMETERS, CONDITION_SECONDS, parsed
from vidkd.detection.metrics import pooled_f1
from vidkd.report.figures import INK, SERIES, accuracy_by_condition, canvas, finish, paired_bars, seed_dots, short
from vidkd.report.parts import Estimate, Figure, Report, Table, TableCell, is_share

if TYPE_CHECKING:
    import pandas as pd

    from vidkd.bench.streams.study import StreamStudy

CALLS = "calls"
WORDS = {
    "labels": "labelled clips used (%)",
    "clips": "labelled clips of each class",
    "obs": "share of the clip observed (%)",
    CALLS: "share of frames sent to the oracle (%)",
}
"""Conditions with a number, behind the @ of a metric, for a reader."""
COUNTS = ("oracle_calls", "updates", "frames_after", "stream_ms")
"""Numbers of a stream in its tables; milliseconds of other parts are left out."""
MOST_INTERVALS = 6
"""Columns of a table above which only means are shown, for intervals would hide them."""
JUDGED_BY_CALLS = ("f1", "ap50", "ap30", "recall")
"""Metrics that are drawn over the share of calls."""
SMOOTHED = 15
"""Frames over which the time line averages F1."""
PAIRED = "Method minus the reference, on the same seeds, folds and clips, or blocks of the stream; shares in percentage points."


def long_table(summary: Mapping[str, Any]) -> "pd.DataFrame":
    """A row for every metric of every method, and for every paired difference, then with its reference.

    Columns: method, reference ("" without one), metric and its parts as `parsed`, n, and cell, an Estimate; methods under their labels.
    """
    labels = summary["data"].get("labels", {})
    found = [
        (name, "", metric, row["mean"], row["ci95"], row["n"])
        for name, method in summary["methods"].items()
        for metric, row in method["metrics"].items()
    ]
    found += [
        (pair["method"], pair["reference"], pair["metric"], pair["difference"], pair["ci95"], pair["pairs"]) for pair in summary["paired"]
    ]
    rows = []
    for method, reference, metric, value, bounds, n in found:
        name = parsed(metric)
        percent = is_share(metric) and name.base not in COUNTS
        cell = Estimate(value=value, ci95=bounds and (bounds[0], bounds[1]), percent=percent, signed=bool(reference))
        shown = labels.get(method, method) + (f" @ {name.other}" if name.other and name.word != CALLS else "")
        rows.append({"method": shown, "reference": labels.get(reference, reference), "metric": metric, **name._asdict()})
        rows[-1] |= {"numbers": name.numbers if name.word else "", "n": n, "cell": cell}
    frame: pd.DataFrame = require("pandas", "report").DataFrame(rows)
    return frame


def study_tables(summary: Mapping[str, Any]) -> list[Table]:
    """The tables of a study of any kind: methods, the same under every condition, and paired differences."""
    frame = long_table(summary)
    shown = frame[~frame.base.str.endswith("_ms") | frame.base.isin(COUNTS)]
    own, pairs = shown[shown.reference == ""], shown[shown.reference != ""]
    return [*_methods(summary, own[own.word == ""]), *_by_condition(own[own.word != ""]), *_differences(pairs)]


def _methods(summary: Mapping[str, Any], plain: "pd.DataFrame") -> Iterator[Table]:
    """The metrics without a condition that is a number, with the cells of each method, its parameters and the time of a training."""
    if len(plain):
        more: dict[str, tuple[TableCell, ...]] = {}
        labels = summary["data"].get("labels", {})
        for name, method in summary["methods"].items():
            seconds = None if method["train_seconds"] is None else duration(method["train_seconds"])
            more[labels.get(name, name)] = (max(row["n"] for row in method["metrics"].values()), method["parameters"], seconds)
        shown = plain[~plain.base.isin([CONDITION_SECONDS, CONDITION_PARAMETERS])]
        table = pivot(shown, "base", title="Methods", caption=_caption(shown))
        rows = tuple((*row, *more.get(str(row[0]).partition(" @ ")[0], (None, None, None))) for row in table.rows)
        columns = (*table.columns, "cells", "parameters", "training")
        yield Table(title=table.title, columns=columns, rows=rows, caption=table.caption)


def _caption(shown: "pd.DataFrame") -> str:
    if any(cell.ci95 for cell in shown.cell):
        return "Means over seeds and folds or streams; in brackets the 95 % interval over seeds and test groups or blocks of the stream."
    return "Means over seeds and folds or streams, without intervals: those take two seeds and two test groups."


def _by_condition(frame: "pd.DataFrame") -> Iterator[Table]:
    """A table for every metric that was measured under several values of a condition; of calls also one for every share."""
    for (word, base), group in frame.groupby(["word", "base"], sort=False):
        if group.numbers.nunique() > 1 and (word != CALLS or base == "f1") and base not in (CONDITION_SECONDS, CONDITION_PARAMETERS):
            yield pivot(group, "numbers", title=f"{base} by {WORDS.get(str(word), word)}", caption=_caption(group))
        elif group.numbers.nunique() == 1 and word != CALLS:
            yield pivot(group, "base", title=f"{WORDS.get(str(word), word)}: {group.numbers.iloc[0]}", caption=_caption(group))
    for numbers, group in frame[frame.word == CALLS].groupby("numbers", sort=False):
        caption = f"{_caption(group)} Calls, updates and frames after the last update are numbers a stream; milliseconds are of a frame."
        yield pivot(group, "base", title=f"At {numbers} % calls", caption=caption)


def _differences(pairs: "pd.DataFrame") -> Iterator[Table]:
    """A table for every reference, and one of the method that alone is compared with several; of calls for every share of them."""
    shares = pairs.numbers.where(pairs.word == CALLS, "")
    alone = pairs.groupby("reference").method.transform("nunique") == 1
    several = pairs.reference.where(alone).groupby(pairs.method).transform("nunique") > 1
    method = pairs.method.where(alone & several, "")
    for (reference, claimed, share), group in pairs.groupby([pairs.reference.where(method == "", ""), method, shares], sort=False):
        units = group.word.map(lambda word: " clips a class" if word == "clips" else " %")
        shown = group if share else group.assign(base=group.base + (", " + group.numbers + units).where(group.numbers != "", ""))
        title = f"Minus {reference}" if reference else f"{str(claimed)[:1].upper()}{str(claimed)[1:]}, minus"
        shown = shown if reference else shown.assign(method=shown.reference)
        yield pivot(shown, "base", title=title + (f", at {share} % calls" if share else ""), caption=PAIRED)


def pivot(frame: "pd.DataFrame", columns: str, *, title: str, caption: str = "") -> Table:
    """A row a method, a column for each value of `columns`, in their order; of more than MOST_INTERVALS numbers only the means."""
    wide = frame.pivot_table(index="method", columns=columns, values="cell", aggfunc="first", sort=False)
    order = list(dict.fromkeys(frame[columns]))
    if columns == "numbers":  # single ones rising, then ranges
        order.sort(key=lambda numbers: ("-" in numbers, float(numbers.partition("-")[0])))
    wide = wide[order]
    crowded = columns == "numbers" and len(wide.columns) > MOST_INTERVALS
    heads = [f"{name} (%)" if any(cell.percent and not cell.signed for cell in wide[name].dropna()) else str(name) for name in wide.columns]
    rows = tuple((name, *(_shown(cell, crowded) for cell in row)) for name, row in zip(wide.index, wide.to_numpy(), strict=True))
    return Table(title=title, columns=("method", *(heads if columns == "base" else map(str, wide.columns))), rows=rows, caption=caption)


def _shown(cell: object, crowded: bool) -> Estimate | None:
    if not isinstance(cell, Estimate):
        return None
    return Estimate(value=cell.value, percent=cell.percent, signed=cell.signed) if crowded else cell


def study_report(summary: Mapping[str, Any], *, command: str = "", config_text: str = "", title: str = "", text: str = "") -> Report:
    """Tables and figures of a summary (schema of `bench.summary`).

    title: by default the study's name. text: what the study asks and how.
    """
    data = summary["data"]
    subset = f", subset {data['subset']}" if "subset" in data else ""
    return Report(
        title=title or str(summary["study"]).replace("_", " "),
        text=text,
        subtitle=f"{len(summary['methods'])} methods on {data.get('name')}{subset}",
        command=command,
        config_text=config_text,
        tables=tuple(study_tables(summary)),
        figures=tuple(_figures(summary)),
        notes={**study_notes(summary), "time": duration(summary["seconds"])},
        environment=summary["environment"],
    )


def study_notes(summary: Mapping[str, Any]) -> dict[str, str]:
    """What a reader of the numbers has to know: seeds, folds, reference, claim, blocks of streams, remarks on the judged clips."""
    data = summary["data"]
    labels = data.get("labels", {})
    notes = {}
    for key in ("seeds", "folds", "frames", "reference", "claim", "block", "shorter_blocks"):
        if value := data.get(key):
            parts = [f"{name} {what}" for name, what in value.items()] if isinstance(value, Mapping) else np.atleast_1d(value).tolist()
            notes[key.replace("_", " ")] = ", ".join(str(labels.get(part, part)) for part in parts)
    return {**notes, **({"note": "; ".join(data["remarks"])} if data.get("remarks") else {})}


def _figures(summary: Mapping[str, Any]) -> Iterator[Figure]:
    """A mean over observed shares is one number of a method too; their area says what the mean does."""
    frame = long_table(summary)
    own, pairs = frame[frame.reference == ""], frame[frame.reference != ""]
    yield from condition_figures(summary, ("obs",))
    for metric, group in own[own.metric.map(_is_summed_up).astype(bool)].groupby("metric", sort=False):
        if metric == "top1" or any(cell.ci95 for cell in group.cell):
            having = [method["metrics"][metric]["values"] for method in summary["methods"].values() if metric in method["metrics"]]
            values, cells = dict(zip(group.method, having, strict=True)), dict(zip(group.method, group.cell, strict=True))
            unit = "%" if is_share(str(metric)) else str(metric)
            yield seed_dots(values, cells, title=f"{metric_words(str(metric))} of every seed", unit=unit)
    compared = pairs[pairs.metric.map(lambda metric: _is_summed_up(metric) or parsed(metric).word in ("labels", "clips")).astype(bool)]
    for metric, group in compared.groupby("metric", sort=False):
        yield paired_bars(list(zip(group.method, group.reference, group.cell, strict=True)), words=metric_words(str(metric)))
    yield from condition_figures(summary, ("labels", "clips", CALLS))


def _is_summed_up(metric: str) -> bool:
    name = parsed(metric)
    return metric != AREA and (("@" not in metric) or (name.word == "obs" and name.low != name.high))


def metric_words(metric: str) -> str:
    """A metric's name for a reader: `top1, 20-50 % observed`; others unchanged."""
    name = parsed(metric)
    return f"{name.base}, {name.numbers} % observed" + (f", {name.other}" if name.other else "") if name.word == "obs" else metric


def condition_figures(summary: Mapping[str, Any], words: Sequence[str], bases: Sequence[str] = JUDGED_BY_CALLS) -> list[Figure]:
    """Curves of methods over these conditions, over shares observed a figure for each share of labels; over calls only those of `bases`."""
    frame = long_table({**summary, "paired": []})
    shown = frame[frame.word.isin(words) & (frame.low == frame.high) & ~frame.base.isin([CONDITION_SECONDS, CONDITION_PARAMETERS])]
    shown = shown[(shown.word != CALLS) | shown.base.isin(bases)]
    figures = []
    labels = [other.partition(".")[0] if word == "obs" else "" for other, word in zip(shown.other, shown.word, strict=True)]
    for (base, word, share), group in (
        (map(str, key), group) for key, group in shown.assign(labels=labels).groupby(["base", "word", "labels"], sort=False)
    ):
        if group.low.nunique() > 1:
            series = {
                str(name).replace(f"@ {share}.", "@ ").removesuffix(f" @ {share}"): dict(zip(of_name.low, of_name.cell, strict=True))
                for name, of_name in group.groupby("method", sort=False)
            }
            unit, title = "%" if is_share(base) else base, f"{base} by {WORDS[word]}" + (f", {share}" if share else "")
            figures.append(accuracy_by_condition(series, title=title, condition=WORDS[word], unit=unit))
    return figures


def time_lines(study: "StreamStudy", cells: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """For every test stream each method with the first seed: F1 along the stream, its calls and the updates that were kept.

    Of several shares of calls the one nearest to that of tuning is drawn.
    """
    found, figures = by_method_and_share(study, cells), []
    for stream in study.spec.test_streams:
        rows: dict[str, dict[str, Any]] = {}
        for (name, _), of_share in sorted(found.items(), key=lambda item: -abs(item[0][1] - study.spec.tuning.calls)):
            for cell in of_share:
                if cell["place"] == stream and cell["seed"] == study.spec.seeds[0]:
                    rows[study.spec.methods[name].label or name] = cell
        if rows:
            order = [method.label or name for name, method in study.spec.methods.items()]
            figures.append(_time_line({name: rows[name] for name in order if name in rows}, stream))
    return figures


def _time_line(rows: Mapping[str, Mapping[str, Any]], stream: str) -> Figure:
    with canvas(0.8 + 0.75 * len(rows), 8.6) as (drawing, axes):
        for row, cell in enumerate(rows.values()):
            colour = SERIES[row % len(SERIES)]
            window = np.ones(min(SMOOTHED, cell["frames"]))
            f1 = pooled_f1(*(np.convolve(cell["counts"][name], window, mode="same") for name in ("right", "wrong", "missed")))
            axes.plot(np.arange(cell["frames"]), row + 0.4 - 0.75 * f1, color=colour, lw=1.2)
            axes.plot(cell["called"], np.full(len(cell["called"]), row + 0.45), "|", color=INK, ms=4, mew=0.8)
            axes.plot(cell["kept"], np.full(len(cell["kept"]), row + 0.45), ".", color=colour, ms=3)
        axes.set_yticks(range(len(rows)), [short(name) for name in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("frame of the stream")
        caption = f"Lines: F1 over {SMOOTHED} frames, from 0 at the row's foot to 1 at its top. Strokes: calls; dots: updates kept."
        return finish(drawing, f"Time line, {stream}", caption=caption, wide=True)
