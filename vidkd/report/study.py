"""The report of a study, of classifiers or along streams, from its summary."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from vidkd.base.progress import duration
from vidkd.bench.observed import AREA, parsed
from vidkd.bench.streams.summary import by_method_and_share
from vidkd.bench.summary import CONDITION_PARAMETERS, CONDITION_SECONDS, Paired
from vidkd.detection.metrics import pooled_f1
from vidkd.report.drawing import INK, SERIES, canvas, finish, short
from vidkd.report.figures import accuracy_by_condition, paired_bars, seed_dots
from vidkd.report.observed import remark_notes
from vidkd.report.parts import Figure, Report, is_share
from vidkd.report.study_tables import CALLS, WORDS, long_table, study_tables

if TYPE_CHECKING:
    from vidkd.bench.streams.study import StreamStudy

JUDGED_BY_CALLS = ("f1", "ap50", "ap30", "recall")
"""Metrics that are drawn over the share of calls."""
SMOOTHED = 15
"""Frames over which the time line averages F1."""


def study_report(summary: Mapping[str, Any], *, command: str = "", config_text: str = "", title: str = "", text: str = "") -> Report:
    """Tables and figures of a summary (schema of `bench.summary`).

    title: by default the study's name. text: what the study asks and how.
    """
    data = summary["data"] if isinstance(summary["data"], Mapping) else {"name": summary["data"]}
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
        environment={str(name): str(value) for name, value in summary["environment"].items()},
    )


def study_notes(summary: Mapping[str, Any]) -> dict[str, str]:
    """What a reader of the numbers has to know: seeds, folds, reference, claim, blocks of streams, remarks on the judged clips."""
    data = summary["data"] if isinstance(summary["data"], Mapping) else {}
    labels = data.get("labels", {})
    notes = {}
    for key in ("seeds", "folds", "frames", "reference", "claim", "block", "shorter_blocks"):
        if value := data.get(key):
            parts = [f"{name} {what}" for name, what in value.items()] if isinstance(value, Mapping) else np.atleast_1d(value).tolist()
            notes[key.replace("_", " ")] = ", ".join(str(labels.get(part, part)) for part in parts)
    return {**notes, **remark_notes(data.get("remarks", []))}


def _figures(summary: Mapping[str, Any]) -> list[Figure]:
    """A mean over observed shares is one number of a method too; their area says what the mean does."""
    labels = summary["data"].get("labels", {}) if isinstance(summary["data"], Mapping) else {}
    pairs = [{**pair, **{side: labels.get(pair[side], pair[side]) for side in ("method", "reference")}} for pair in summary["paired"]]
    methods = {labels.get(name, name): method["metrics"] for name, method in summary["methods"].items()}
    metrics = dict.fromkeys(metric for of_method in methods.values() for metric in of_method if _is_summed_up(metric))
    dots = []
    for metric in metrics:
        having = {name: of_method[metric] for name, of_method in methods.items() if metric in of_method}
        if metric == "top1" or any(row["ci95"] for row in having.values()):
            frame = long_table({**summary, "paired": []})
            cells = dict(frame[frame.metric == metric][["method", "cell"]].itertuples(index=False))
            values = {name: row["values"] for name, row in having.items()}
            dots.append(seed_dots(values, cells, title=f"{metric_words(metric)} of every seed", unit="%" if is_share(metric) else metric))
    compared = [metric for metric in dict.fromkeys(pair["metric"] for pair in pairs) if _is_summed_up(metric) or "@labels" in metric]
    typed = msgspec.convert(pairs, list[Paired])
    bars = [paired_bars(typed, metric=metric, words=metric_words(metric)) for metric in compared]
    return [*condition_figures(summary, ("obs",)), *dots, *bars, *condition_figures(summary, ("labels", CALLS))]


def _is_summed_up(metric: str) -> bool:
    name = parsed(metric)
    return metric != AREA and (("@" not in metric) or (name.word == "obs" and name.low != name.high))


def metric_words(metric: str) -> str:
    """A metric's name for a reader: `top1, 20-50 % observed`; others unchanged."""
    name = parsed(metric)
    return f"{name.base}, {name.numbers} % observed" + (f", {name.other}" if name.other else "") if name.word == "obs" else metric


def condition_figures(summary: Mapping[str, Any], words: Sequence[str], bases: Sequence[str] = JUDGED_BY_CALLS) -> list[Figure]:
    """Curves of methods over these conditions; over calls only those of `bases`."""
    frame = long_table({**summary, "paired": []})
    shown = frame[frame.word.isin(words) & (frame.low == frame.high) & ~frame.base.isin([CONDITION_SECONDS, CONDITION_PARAMETERS])]
    shown = shown[(shown.word != CALLS) | shown.base.isin(bases)]
    figures = []
    for (base, word), group in ((map(str, key), group) for key, group in shown.groupby(["base", "word"], sort=False)):
        if group.low.nunique() > 1:
            series = {str(name): dict(zip(of_name.low, of_name.cell, strict=True)) for name, of_name in group.groupby("method", sort=False)}
            unit = "%" if is_share(base) else base
            figures.append(accuracy_by_condition(series, title=f"{base} by {WORDS[word]}", condition=WORDS[word], unit=unit))
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
