"""The report of a study along streams: its tables as docs/results/ has them, quality against calls, and the way of each method."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidkd.base.progress import duration
from vidkd.bench.streams.tables import COUNTS, Rows, Value, value_tables
from vidkd.bench.summary import check_summary
from vidkd.report.parts import Estimate, Figure, Report, Table, TableCell
from vidkd.report.study import condition_figures

JUDGED = ("f1", "ap50", "ap30", "recall")
"""Metrics that are drawn against calls, where there are several shares of these."""


def stream_study_report(
    summary: Mapping[str, Any], *, command: str = "", config_text: str = "", title: str = "", text: str = "", figures: Sequence[Figure] = ()
) -> Report:
    """Tables and figures of the summary of a study along streams.

    title: by default the study's name. text: what the study asks and how. figures: further ones, below those of the summary.
    Raises DataError for a summary that does not follow the schema.
    """
    content = check_summary(dict(summary), source="summary")
    methods, data = content["methods"], content["data"]
    frames = ", ".join(f"{name} ({count} frames)" for name, count in data["frames"].items())
    return Report(
        title=title or str(content["study"]).replace("_", " "),
        subtitle=f"{len(methods)} methods along {frames}",
        text=text,
        command=command,
        config_text=config_text,
        tables=tuple(_table(heading, rows) for heading, rows in value_tables(content).items()),
        figures=(*condition_figures(_judged(methods, data["labels"])), *figures),
        notes={"seeds": ", ".join(map(str, data["seeds"])), "block": f"{data['block']} frames", "time": duration(content["seconds"])},
        environment={str(name): str(value) for name, value in content["environment"].items()},
    )


def quality_table(summary: Mapping[str, Any]) -> Table:
    """F1 of every method at every share of calls. Raises DataError for a summary that does not follow the schema."""
    content = check_summary(dict(summary), source="summary")
    heading, rows = next(iter(value_tables(content).items()))
    return _table(heading, rows)


def quality_figures(summary: Mapping[str, Any]) -> list[Figure]:
    """F1 of every method against calls, where there are several shares of these. Raises DataError as `quality_table`."""
    content = check_summary(dict(summary), source="summary")
    return condition_figures(_judged(content["methods"], content["data"]["labels"], ("f1",)))


def _judged(methods: Mapping[str, Any], labels: Mapping[str, str], which: Sequence[str] = JUDGED) -> dict[str, Any]:
    """The methods under their labels, with only these metrics of whole streams."""
    judged: dict[str, Any] = {}
    for name, method in methods.items():
        metrics = {metric: row for metric, row in method["metrics"].items() if metric.partition("@")[0] in which}
        judged[labels.get(name, name)] = {"metrics": metrics}
    return judged


def _table(heading: str, rows: Rows) -> Table:
    columns, *body = rows
    caption = "Means over seeds and streams, in percent"
    sure = any(isinstance(cell, Value) and cell.ci95 is not None for row in body for cell in row)
    caption += "; in brackets 95 % intervals by blocks of the stream." if sure else ", of one seed, without an interval."
    if any(column in COUNTS for column in columns):
        caption += " Calls, updates and frames after the last update are numbers a stream; milliseconds are of a frame."
    return Table(title=heading, columns=tuple(map(str, columns)), rows=tuple(tuple(map(_cell, row)) for row in body), caption=caption)


def _cell(cell: str | Value | None) -> TableCell:
    if not isinstance(cell, Value):
        return cell
    if cell.kind == "number":
        return round(cell.value)
    return Estimate(value=cell.value, ci95=cell.ci95, signed=cell.kind == "difference")
