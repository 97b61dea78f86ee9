"""The tables of a study of streams as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidkd.bench.streams.bootstrap import FEWEST
from vidkd.bench.streams.tables import Value, value_tables
from vidkd.bench.tables import interval


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


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the heading first, as a Markdown table."""
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
