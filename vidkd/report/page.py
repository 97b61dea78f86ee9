"""The HTML page: one file that loads nothing, reads on a phone, by day and by night; rendered by one template, page.html.j2."""

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path

from vidkd.base.errors import require
from vidkd.base.files import atomic_write
from vidkd.report.parts import Estimate, Report, Table, TableCell, format_estimate, format_number

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_TAG = re.compile(r"<[^>]+>")
_ID = re.compile(r'(\bid="|href="#|url\(#)')


def render_report(path: Path | str, report: Report) -> Path:
    """Write `report` as one HTML file, atomically; returns its path."""
    with atomic_write(path) as file:
        file.write(render_html(report))
    return Path(path)


def render_html(report: Report) -> str:
    """The whole page. Every text of the report is escaped; SVG and data URIs are put in unchanged.

    The only script, on pages with a table that sorts, is named to the browser by its hash, so that no other may run.
    """
    environment = require("jinja2", "report").Environment(autoescape=True, trim_blocks=False)
    environment.filters |= {
        "nbsp": lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%"),
        "parts": _cell_parts,
        "numeric": _numeric_columns,
        "key": sort_key,
        "own_ids": _own_ids,
    }
    script = _resource("sort.js") if any(table.sorts for table in report.tables) else ""
    policy = f"{_POLICY}; script-src {script_hash(script)}" if script else _POLICY
    template = environment.from_string(_resource("page.html.j2"))
    page: str = template.render(report=report, css=_resource("page.css"), script=script, policy=policy)
    return page


def script_hash(script: str) -> str:
    """The name of an inline script in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def sort_key(cell: TableCell) -> str:
    """What a cell is sorted by: its number, its text, or nothing."""
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else repr(float(cell.value if isinstance(cell, Estimate) else cell))


def _resource(name: str) -> str:
    return resources.files("vidkd.report").joinpath(name).read_text(encoding="utf-8")


def _numeric_columns(table: Table) -> list[bool]:
    return [all(not isinstance(row[column], str) for row in table.rows) for column in range(len(table.columns))]


def _cell_parts(cell: TableCell) -> tuple[str, str]:
    """A cell and its interval as text."""
    if cell is None:
        return "\N{EN DASH}", ""
    if isinstance(cell, Estimate):
        return format_estimate(cell)
    return cell if isinstance(cell, str) else format_number(cell), ""


def _own_ids(svg: str, index: int) -> str:
    """A drawing with its number in its ids, which two drawings on one page would otherwise share."""
    return _TAG.sub(lambda tag: _ID.sub(lambda match: f"{match[1]}f{index}-", tag[0]), svg)
