"""The tables of a study of streams, and its section of docs/results.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidkd.bench.results_page import markdown_table
from vidkd.bench.streams.bootstrap import FEWEST
from vidkd.bench.streams.collect import condition_of_share, read_stream_cells, summarise_streams
from vidkd.bench.streams.places import StreamPlaces
from vidkd.bench.streams.reading import read_stream_study
from vidkd.bench.streams.settings import cells_to_run
from vidkd.bench.streams.spec import StreamStudy
from vidkd.bench.streams.tuning import read_chosen_trials
from vidkd.bench.tables import interval, percent

Rows = list[tuple[str, ...]]
COUNTS = ("oracle_calls", "updates", "frames_after", "stream_ms")
"""Metrics that are told as numbers, not in percent."""

FAMILIES = {"F1": ("f1",), "AP50 and AP30": ("ap50", "ap30"), "recall": ("recall",)}
"""Figures that share a table of differences."""

HEAD = """
# Online distillation along streams

Scored boxes are the student's, made before it may learn from the frame; the oracle's never count for it. F1 in percent against the oracle's
boxes on every frame, pooled over a stream, mean over cells (seeds x streams). AP50, AP30 and recall are against annotated frames. Intervals
are 95 % by a circular block bootstrap over stretches of each stream, over streams where there are several, and over seeds; differences are
paired on seed, stream and blocks. A method that draws nothing was run once and stands for every seed.
"""


def streams_page(studies: Path, results: Path) -> str:
    """The sections of all stream studies of a folder that have finished cells; empty if none has."""
    sections = []
    for path in sorted(studies.glob("*.yaml")):
        study = read_stream_study(path)
        places = StreamPlaces(roots=(), results=results / study.spec.study, cache=Path("runs"))
        if (places.results / "test").is_dir():
            sections.append(stream_section(study, places))
    return HEAD + "".join(sections) if any(sections) else ""


def stream_section(study: StreamStudy, places: StreamPlaces) -> str:
    """Heading, command and tables of one study; empty if no cell is finished."""
    found = read_stream_cells(study, places, read_chosen_trials(study, places))
    if not found:
        return ""
    summary = summarise_streams(study, found)
    spec, wanted = study.spec, cells_to_run(study.spec)
    missing = sum(not places.cell("test", key).exists() for key in wanted)
    frames = ", ".join(f"{name} ({count} frames)" for name, count in summary["data"]["frames"].items())
    environment = summary["environment"]
    lines = [
        f"\n## {spec.title or spec.study}\n",
        *([spec.text.strip() + "\n"] if spec.text else []),
        f"`vidkd compare_streams configs/studies/streams/{study.path.name} --root DIR`; streams {frames}; "
        f"seeds {', '.join(map(str, spec.seeds))}; blocks of {spec.block} frames; {summary['seconds'] / 3600:.1f} h on "
        f"{environment['processor']}, torch {environment['torch']}.\n",
        *([f"**Unfinished: {len(wanted) - missing} of {len(wanted)} cells.**\n"] if missing else []),
        *(f"{title}\n\n{markdown_table(rows)}" for title, rows in tables_of(summary).items()),
        *([f"{note}\n"] if (note := blocks_note(summary)) else []),
    ]
    return "\n".join(lines)


def tables_of(summary: Mapping[str, Any]) -> dict[str, Rows]:
    """The tables of a study by their headings: F1 at every share, differences to each reference, all else at each share."""
    tables = {"F1 against the oracle, at shares of frames sent to it:": quality_rows(summary)}
    for against in summary["data"]["against"]:
        for family in FAMILIES:
            rows = against_rows(summary, against, family)
            if len(rows) > 1:
                tables[f"{family} minus that of {_label(summary, against)}:"] = rows
    for condition in _conditions(summary):
        rows = detail_rows(summary, condition)
        if len(rows[0]) > 1:
            tables[f"At {condition.removeprefix('calls')} % calls:"] = rows
    return tables


def quality_rows(summary: Mapping[str, Any]) -> Rows:
    """A row a method: F1 and its interval at every share."""
    conditions = _conditions(summary)
    rows: Rows = [("method", *(f"{condition.removeprefix('calls')} %" for condition in conditions))]
    for name, method in summary["methods"].items():
        found = [method["metrics"].get(f"f1@{condition}") for condition in conditions]
        rows.append((_label(summary, name), *(_with_interval(metric) for metric in found)))
    return rows


def blocks_note(summary: Mapping[str, Any]) -> str:
    """Which intervals are of shorter blocks than the study's, and of how many frames; empty where none is."""
    shorter = summary["data"]["shorter_blocks"]
    if not shorter:
        return ""
    told = ", ".join(f"{metric} {' to '.join(map(str, sorted({min(blocks), max(blocks)})))}" for metric, blocks in shorter.items())
    return (
        f"A stretch of less than {FEWEST} blocks of {summary['data']['block']} frames is drawn in {FEWEST} shorter ones, and blocks of "
        f"AP50, AP30 and recall are of annotated frames; frames of a block: {told}. So few blocks tell little of what lasts longer."
    )


def against_rows(summary: Mapping[str, Any], against: str, family: str = "F1") -> Rows:
    """A row a method: its figures of a family minus those of `against`, with intervals, at every share; the whole, then the ranges."""
    pairs = [pair for pair in summary["paired"] if pair["against"] == against and _base(pair["metric"]) in FAMILIES[family]]
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


def stream_table(summary: Mapping[str, Any]) -> str:
    """All tables as text."""
    tables = [f"{title}\n\n{markdown_table(rows)}" for title, rows in tables_of(summary).items()]
    return "\n".join([*tables, *([f"{note}\n"] if (note := blocks_note(summary)) else [])])


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


def _with_interval(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{percent(row['mean'])} {interval(row['ci95'])}"


def _difference(pair: Mapping[str, Any] | None) -> str:
    return "" if pair is None else f"{100 * pair['difference']:+.1f} {interval(pair['ci95'], signed=True)}"


def _number(metric: str, row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if metric in COUNTS:
        return f"{row['mean']:.0f}"
    return _with_interval(row) if row["ci95"] else percent(row["mean"])
