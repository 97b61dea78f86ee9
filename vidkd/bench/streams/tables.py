"""The tables of a study of streams as values, which a page of text and a report write each in its own way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vidkd.bench.streams.summary import condition_of_share

COUNTS = ("oracle_calls", "updates", "frames_after", "stream_ms")
"""Metrics that are told as numbers, not in percent."""
FAMILIES = {"F1": ("f1",), "AP50 and AP30": ("ap50", "ap30"), "recall": ("recall",)}
"""Figures that share a table of differences."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A mean with its 95 % interval, None where it is not known. kind: a share of one, a difference of two such, or a number of things."""

    value: float
    ci95: tuple[float, float] | None
    kind: Literal["share", "difference", "number"] = "share"


Rows = list[tuple[str | Value | None, ...]]
"""Rows of equally many cells, the heading first."""


def value_tables(summary: Mapping[str, Any]) -> dict[str, Rows]:
    """The tables of a study by their headings: F1 at every share, differences to each reference, all else at each share."""
    tables = {"F1 against the oracle, at shares of frames sent to it": quality_rows(summary)}
    for against in summary["data"]["reference"]:
        for family in FAMILIES:
            rows = against_rows(summary, against, family)
            if len(rows) > 1:
                tables[f"{family} minus that of {_label(summary, against)}"] = rows
    for condition in _conditions(summary):
        rows = detail_rows(summary, condition)
        if len(rows[0]) > 1:
            tables[f"At {condition.removeprefix('calls')} % calls"] = rows
    return tables


def quality_rows(summary: Mapping[str, Any]) -> Rows:
    """A row a method: F1 and its interval at every share."""
    conditions = _conditions(summary)
    rows: Rows = [("method", *(f"{condition.removeprefix('calls')} %" for condition in conditions))]
    for name, method in summary["methods"].items():
        found = [method["metrics"].get(f"f1@{condition}") for condition in conditions]
        rows.append((_label(summary, name), *map(_share, found)))
    return rows


def against_rows(summary: Mapping[str, Any], against: str, family: str = "F1") -> Rows:
    """A row a method: its figures of a family minus those of `against`, with intervals, at every share; the whole, then the ranges."""
    pairs = [pair for pair in summary["paired"] if pair["reference"] == against and _base(pair["metric"]) in FAMILIES[family]]
    metrics = list(dict.fromkeys(pair["metric"] for pair in pairs))
    rows: Rows = [("method", *(_shown(metric) for metric in metrics))]
    for name in dict.fromkeys(pair["method"] for pair in pairs):
        own = {pair["metric"]: pair for pair in pairs if pair["method"] == name}
        rows.append((_label(summary, name), *(_difference(own.get(metric)) for metric in metrics)))
    return rows


def detail_rows(summary: Mapping[str, Any], condition: str) -> Rows:
    """A row a method: F1 of the ranges, figures against annotated frames, calls, updates, milliseconds a frame, at one share."""
    names = list(
        dict.fromkeys(
            metric.partition("@")[0]
            for method in summary["methods"].values()
            for metric in method["metrics"]
            if metric.partition("@")[2] == condition and not metric.startswith("f1@") and _is_told(metric)
        )
    )
    rows: Rows = [("method", *names)]
    for name, method in summary["methods"].items():
        found = [(metric, method["metrics"].get(f"{metric}@{condition}")) for metric in names]
        if any(row for _, row in found):
            rows.append((_label(summary, name), *(_number(metric, row) for metric, row in found)))
    return rows


def _is_told(metric: str) -> bool:
    name = metric.partition("@")[0]
    return name in COUNTS or not name.endswith("_ms")


def _conditions(summary: Mapping[str, Any]) -> list[str]:
    """calls2, calls5, ... of all metrics, rising."""
    shares = {
        float(metric.partition("@calls")[2]) for method in summary["methods"].values() for metric in method["metrics"] if "@calls" in metric
    }
    return [condition_of_share(share / 100) for share in sorted(shares)]


def _base(metric: str) -> str:
    """ap50 of ap50_late@calls5."""
    return metric.partition("@")[0].partition("_")[0]


def _shown(metric: str) -> str:
    name, _, condition = metric.partition("@")
    figure, _, place = name.partition("_")
    parts = [*([] if figure == "f1" else [figure]), f"{condition.removeprefix('calls')} %", *([place.replace("_", " ")] if place else [])]
    return ", ".join(parts)


def _label(summary: Mapping[str, Any], name: str) -> str:
    return str(summary["data"]["labels"].get(name, name))


def _share(row: Mapping[str, Any] | None) -> Value | None:
    return None if row is None else Value(value=row["mean"], ci95=_bounds(row["ci95"]))


def _difference(pair: Mapping[str, Any] | None) -> Value | None:
    return None if pair is None else Value(value=pair["difference"], ci95=_bounds(pair["ci95"]), kind="difference")


def _number(metric: str, row: Mapping[str, Any] | None) -> Value | None:
    if row is not None and metric in COUNTS:
        return Value(value=row["mean"], ci95=None, kind="number")
    return _share(row)


def _bounds(bounds: Sequence[float] | None) -> tuple[float, float] | None:
    return None if bounds is None else (bounds[0], bounds[1])
