"""The tables of a study as rows of text: methods, their accuracy at every observed share, paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidkd.base.tables import aligned as aligned
from vidkd.bench.observed import ACCURACY, AREA, condition_of, observed_metric, under
from vidkd.bench.summary import CONDITION_SECONDS

Rows = list[tuple[str, ...]]
"""Rows of equally many cells, the heading first."""


def rows_of(summary: Mapping[str, Any]) -> Rows:
    """The study's table: method, top-1 with interval, difference to the reference with interval, costs where known, cells, seconds.

    A method judged under several conditions has a row for each; * marks the method of the claim. Where methods were judged at several
    observed shares, top-1 is the mean over them, and the area under that curve stands beside it.
    """
    reference, labels = summary["data"]["reference"], summary["data"]["labels"]
    against = {(pair["method"], pair["metric"]): pair for pair in summary["paired"] if pair["reference"] == reference}
    observed = _is_observed(summary)
    top1, area_head = ("mean top-1", ("area",)) if observed else ("top-1", ())
    cost_heads = ("MACs", "bytes") if any("macs" in method["metrics"] for method in summary["methods"].values()) else ()
    heads = ("method", top1, "95 %", f"- {labels.get(reference, reference)}", "95 %", *area_head, *cost_heads, "cells", "train s")
    rows: Rows = [heads]
    for name, condition in _entries(summary):
        method, metric = summary["methods"][name], under(ACCURACY, condition)
        found, pair, area = method["metrics"][metric], against.get((name, metric)), method["metrics"].get(under(AREA, condition))
        difference = (f"{100 * pair['difference']:+.1f}", interval(pair["ci95"], signed=True)) if pair else ("", "")
        areas = (percent(area["mean"]) if area else "",) if observed else ()
        numbers = (percent(found["mean"]), interval(found["ci95"]), *difference, *areas)
        costs = _costs(method["metrics"], condition) if cost_heads else ()
        rows.append((_label(summary, name, condition), *numbers, *costs, str(found["n"]), _seconds(method, condition)))
    return rows


def _seconds(method: Mapping[str, Any], condition: str) -> str:
    """Of one cell under a condition; summaries from before that was kept have the mean over all of them alone."""
    found = method["metrics"].get(under(CONDITION_SECONDS, condition))
    return f"{found['mean'] if condition and found else method['train_seconds']:.0f}"


def _costs(metrics: Mapping[str, Any], condition: str) -> tuple[str, str]:
    """MACs of a clip, and bytes of the weights or of the file; empty where they are not known."""
    macs, size = metrics.get(under("macs", condition)), metrics.get(under("bytes", condition))
    if macs is None or size is None:
        return "", ""
    return f"{macs['mean'] / 1e6:,.1f} M", f"{size['mean']:,.0f}"


def observed_rows(summary: Mapping[str, Any]) -> Rows:
    """Top-1 of every method at every observed share, and with its interval the mean over a range of them; empty if there are none."""
    columns = _observed_columns([metric for method in summary["methods"].values() for metric in method["metrics"]])
    if not columns:
        return []
    rows: Rows = [("method", *columns)]
    for name, condition in _entries(summary):
        metrics = summary["methods"][name]["metrics"]
        found = {seen.percent: metrics[metric] for metric in metrics if (seen := observed_metric(metric)) and seen.condition == condition}
        if found:
            numbers = [_with_interval(found.get(column), "-" in column) for column in columns]
            rows.append((_label(summary, name, condition), *numbers))
    return rows


def _with_interval(found: Mapping[str, Any] | None, shown: bool) -> str:
    if found is None:
        return ""
    return f"{percent(found['mean'])} {interval(found['ci95'])}" if shown else percent(found["mean"])


def difference_rows(summary: Mapping[str, Any], *, method: str | None = None, against: str | None = None) -> Rows:
    """Paired differences of one method with all others, or of all with one, in the mean and at observed shares; empty if there are none."""
    pairs = [pair for pair in summary["paired"] if pair["method"] == method or (method is None and pair["reference"] == against)]
    columns = _observed_columns([pair["metric"] for pair in pairs])
    if not columns:
        return []
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for pair in pairs:
        seen = observed_metric(pair["metric"])
        if seen is None and pair["metric"].partition("@")[0] != ACCURACY:
            continue
        other = pair["reference"] if method is not None else pair["method"]
        text = f"{100 * pair['difference']:+.1f} {interval(pair['ci95'], signed=True)}"
        rows.setdefault((other, condition_of(pair["metric"])), {})["mean" if seen is None else seen.percent] = text
    heads = ("mean", *columns)
    found = [(_label(summary, *key), *(texts.get(head, "") for head in heads)) for key, texts in rows.items()]
    return [("reference" if method is not None else "method", *heads), *found]


def _observed_columns(metrics: Sequence[str]) -> list[str]:
    """The observed shares among metrics, as headings: ranges first, then single ones, rising."""
    found = {seen for metric in metrics if (seen := observed_metric(metric)) and seen.base == ACCURACY}
    return list(dict.fromkeys(seen.percent for seen in sorted(found, key=lambda seen: (not seen.is_range, seen.low))))


def _entries(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Method and condition of every row."""
    return [
        (name, metric.partition("@")[2])
        for name, method in summary["methods"].items()
        for metric in method["metrics"]
        if metric.partition("@")[0] == ACCURACY and observed_metric(metric) is None
    ]


def _is_observed(summary: Mapping[str, Any]) -> bool:
    return any(observed_metric(metric) for method in summary["methods"].values() for metric in method["metrics"])


def _label(summary: Mapping[str, Any], name: str, condition: str) -> str:
    mark = " *" if name == summary["data"]["claim"] else ""
    return str(summary["data"]["labels"].get(name, name)) + (f" @ {condition}" if condition else "") + mark


def table(summary: Mapping[str, Any]) -> str:
    """The study's tables as aligned text, and what is to be known of the judged clips."""
    reference = summary["data"]["reference"]
    label = summary["data"]["labels"].get(reference, reference)
    more = {
        "top-1 at observed shares": observed_rows(summary),
        f"minus {label}, 95 %": difference_rows(summary, against=reference),
    }
    below = "".join(f"\n{title}\n{aligned(rows)}" for title, rows in more.items() if rows)
    return aligned(rows_of(summary)) + below + "".join(f"note: {line}\n" for line in remarks_of(summary))


def remarks_of(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers has to know of the judged clips (`collect.study_remarks`)."""
    return list(summary["data"].get("remarks", []))


def percent(share: float) -> str:
    """A share in percent: 71.2."""
    return f"{100 * share:.1f}"


def interval(bounds: Sequence[float] | None, *, signed: bool = False) -> str:
    """An interval in percent: [71.2, 78.0]; a dash where it cannot be known."""
    if bounds is None:
        return "-"
    low, high = (f"{100 * bound:{'+' if signed else ''}.1f}" for bound in bounds)
    return f"[{low}, {high}]"
