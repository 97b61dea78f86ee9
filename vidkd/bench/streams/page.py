"""The tables of a study of streams, and its section of docs/results.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidkd.bench.reading import committed_studies
from vidkd.bench.results_page import markdown_table
from vidkd.bench.streams.bootstrap import FEWEST
from vidkd.bench.streams.study import StreamStudy
from vidkd.bench.streams.tables import Value, value_tables
from vidkd.bench.study import Places
from vidkd.bench.summary import read_summary
from vidkd.bench.tables import interval

HEAD = """
# Online distillation along streams

Scored boxes are the student's, made before it may learn from the frame; the oracle's never count for it. F1 in percent against the oracle's
boxes on every frame, pooled over a stream, mean over cells (seeds x streams). AP50, AP30 and recall are against annotated frames. Intervals
are 95 % by a circular block bootstrap over stretches of each stream, over streams where there are five or more, and over seeds, stretched
for as few as there are; differences are paired on seed, stream and blocks. A method that draws nothing was run once and stands for all.
"""


def streams_page(studies: Path, results: Path) -> str:
    """The sections of all stream studies of a folder that have finished cells; empty if none has."""
    found = [each for each in committed_studies(studies, results) if isinstance(each[0], StreamStudy)]
    sections = [stream_section(study, places) for study, places in found if isinstance(study, StreamStudy)]
    return HEAD + "".join(sections) if any(sections) else ""


def stream_section(study: StreamStudy, places: Places) -> str:
    """Heading, command and tables of one study, from its summary."""
    summary, cells = read_summary(places.results / "summary.json"), places.store(study.name).names("test")
    spec, (wanted,) = study.spec, study.test_waves()
    missing = sum(str(key) not in cells for key in wanted)
    frames = ", ".join(f"{name} ({count} frames)" for name, count in summary["data"]["frames"].items())
    environment = summary["environment"]
    lines = [
        f"\n## {spec.title or spec.study}\n",
        *([spec.text.strip() + "\n"] if spec.text else []),
        f"`vidkd study configs/studies/streams/{study.path.name} --data.root DIR`; streams {frames}; "
        f"seeds {', '.join(map(str, spec.seeds))}; blocks of {spec.block} frames; {summary['seconds'] / 3600:.1f} h on "
        f"{environment['processor']}, torch {environment['torch']}.\n",
        *([f"**Unfinished: {len(wanted) - missing} of {len(wanted)} cells.**\n"] if missing else []),
        *(f"{title}\n\n{markdown_table(rows)}" for title, rows in tables_of(summary).items()),
        *([f"{note}\n"] if (note := blocks_note(summary)) else []),
    ]
    return "\n".join(lines)


def tables_of(summary: Mapping[str, Any]) -> dict[str, list[tuple[str, ...]]]:
    """The tables of `value_tables` as text."""
    return {f"{title}:": [tuple(map(_text, row)) for row in rows] for title, rows in value_tables(summary).items()}


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


def stream_table(summary: Mapping[str, Any]) -> str:
    """All tables as text."""
    tables = [f"{title}\n\n{markdown_table(rows)}" for title, rows in tables_of(summary).items()]
    return "\n".join([*tables, *([f"{note}\n"] if (note := blocks_note(summary)) else [])])


def _text(cell: str | Value | None) -> str:
    if not isinstance(cell, Value):
        return cell or ""
    if cell.kind == "number":
        return f"{cell.value:.0f}"
    signed = cell.kind == "difference"
    bounds = interval(cell.ci95, signed=signed) if cell.ci95 or signed else ""
    return f"{100 * cell.value:{'+' if signed else ''}.1f} {bounds}".rstrip()
