"""The numbers of a study's summary as one long table, and the tables that text, Markdown and HTML show of it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vidkd.base.errors import require
from vidkd.base.progress import duration
from vidkd.bench.observed import parsed
from vidkd.bench.summary import CONDITION_PARAMETERS, CONDITION_SECONDS
from vidkd.report.parts import Estimate, Table, TableCell, is_share

if TYPE_CHECKING:
    import pandas as pd

CALLS = "calls"
WORDS = {"labels": "labelled clips used (%)", "obs": "share of the clip observed (%)", CALLS: "share of frames sent to the oracle (%)"}
"""Conditions with a number, behind the @ of a metric, for a reader."""
COUNTS = ("oracle_calls", "updates", "frames_after", "stream_ms")
"""Numbers of a stream in its tables; milliseconds of other parts are left out."""
MOST_INTERVALS = 6
"""Columns of a table above which only means are shown, for intervals would hide them."""
PAIRED = "Method minus the reference, on the same seeds, folds and clips, or blocks of the stream; shares in percentage points."


def long_table(summary: Mapping[str, Any]) -> "pd.DataFrame":
    """A row for every metric of every method, and for every paired difference, then with its reference.

    Columns: method, reference ("" without one), metric and its parts as `parsed`, n, and cell, an Estimate; methods under their labels.
    """
    data = summary["data"] if isinstance(summary["data"], Mapping) else {}
    labels = data.get("labels", {})
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
        labels = summary["data"].get("labels", {}) if isinstance(summary["data"], Mapping) else {}
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
    """A table for every reference, of calls for every share of them."""
    shares = pairs.numbers.where(pairs.word == CALLS, "")
    for (reference, share), group in pairs.groupby([pairs.reference, shares], sort=False):
        shown = group if share else group.assign(base=group.base + group.numbers.map(lambda numbers: f", {numbers} %" if numbers else ""))
        yield pivot(shown, "base", title=f"Minus {reference}" + (f", at {share} % calls" if share else ""), caption=PAIRED)


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
