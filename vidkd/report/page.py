"""A report as one HTML file that loads nothing, reads on a phone, by day and by night; its tables as text and as Markdown."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from vidkd.base.errors import require
from vidkd.base.files import atomic_write
from vidkd.report.parts import Estimate, Report, Table, TableCell, format_estimate, format_number


def render_report(path: Path | str, report: Report) -> Path:
    """Write `report` as one HTML file, atomically; returns its path."""
    with atomic_write(path) as file:
        file.write(render_html(report))
    return Path(path)


def render_html(report: Report) -> str:
    """The whole page, by the template page.html.j2. Every text of the report is escaped; SVG and data URIs are put in unchanged."""
    environment = require("jinja2", "report").Environment(autoescape=True, trim_blocks=False)
    environment.filters |= {
        "nbsp": lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%"),
        "parts": _cell_parts,
        "numeric": _numeric_columns,
    }
    files = resources.files("vidkd.report")
    template, css = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.html.j2", "page.css"))
    page: str = environment.from_string(template).render(report=report, css=css)
    return page


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as lines, every column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows)


def table_text(table: Table) -> str:
    """A table as aligned columns, two spaces between them; a cell of None is a dash."""
    return aligned([table.columns, *(tuple(map(_plain, row)) for row in table.rows)])


def table_markdown(table: Table) -> str:
    """A table as Markdown."""
    rows = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *(tuple(map(_plain, row)) for row in table.rows)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def _numeric_columns(table: Table) -> list[bool]:
    return [all(not isinstance(row[column], str) for row in table.rows) for column in range(len(table.columns))]


def _cell_parts(cell: TableCell, unknown: str = "\N{EN DASH}") -> tuple[str, str]:
    """A cell and its interval as text."""
    if cell is None:
        return unknown, ""
    if isinstance(cell, Estimate):
        return format_estimate(cell)
    return cell if isinstance(cell, str) else format_number(cell), ""


def _plain(cell: TableCell) -> str:
    return " ".join(filter(None, _cell_parts(cell, "-")))
