"""The HTML page: one file that loads nothing, reads on a phone, by day and by night."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vidkd.base.files import atomic_write
from vidkd.report.parts import Estimate, Figure, Report, Strip, Table, TableCell, format_estimate, format_number
from vidkd.report.sorting import SORT_SCRIPT, script_source, sort_value
from vidkd.report.style import PAGE_CSS

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
TALL_TABLE = 24  # rows beyond which a table scrolls in its box
_TAG = re.compile(r"<[^>]+>")
_ID = re.compile(r'(\bid="|href="#|url\(#)')


def render_report(path: Path | str, report: Report) -> Path:
    """Write `report` as one HTML file, atomically; returns its path."""
    with atomic_write(path) as file:
        file.write(render_html(report))
    return Path(path)


def render_html(report: Report) -> str:
    """The whole page. Every text of the report is escaped; SVG and data URIs are put in as they are."""
    body = "\n".join(part for part in _parts(report) if part)
    sorts = any(table.sorts for table in report.tables)
    policy = f"{_POLICY}; script-src {script_source(SORT_SCRIPT)}" if sorts else _POLICY
    script = f"<script>{SORT_SCRIPT}</script>\n" if sorts else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<link rel="icon" href="data:,">\n<title>{_text(report.title)}</title>\n'
        f"<style>\n{PAGE_CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n{script}</body>\n</html>\n"
    )


def _parts(report: Report) -> Iterable[str]:
    yield _header(report)
    yield _section("Results", (_table(table) for table in report.tables))
    alone = _alone(report.figures)
    figures = [_figure(figure, index, alone=index in alone) for index, figure in enumerate(report.figures)]
    yield _section("Figures", [f'<div class="figures">{"".join(figures)}</div>'] if figures else [])
    yield _section(report.strips_title, _strips(report))
    yield _section("How it was made", _making(report))


def _header(report: Report) -> str:
    subtitle = f'<p class="subtitle">{_text(report.subtitle)}</p>' if report.subtitle else ""
    facts = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in report.notes.items())
    text = f'<p class="text">{_text(report.text)}</p>' if report.text else ""
    return f"<header><h1>{_text(report.title)}</h1>{subtitle}{text}{f'<dl class=facts>{facts}</dl>' if facts else ''}</header>"


def _section(title: str, parts: Iterable[str]) -> str:
    content = "\n".join(parts)
    return f"<section>\n<h2>{_text(title)}</h2>\n{content}\n</section>" if content else ""


def _strips(report: Report) -> Iterable[str]:
    if report.strips and report.strips_caption:
        yield f'<p class="text">{_text(report.strips_caption)}</p>'
    yield from map(_strip, report.strips)


def _making(report: Report) -> Iterable[str]:
    if report.command:
        yield f"<h3>Command</h3><pre><code>{_text(report.command)}</code></pre>"
    if report.config_text:
        yield f"<details><summary>Configuration</summary><pre><code>{_text(report.config_text)}</code></pre></details>"
    if report.environment:
        yield f"<details><summary>Environment</summary>{_environment(report.environment)}</details>"


def _environment(environment: Mapping[str, str] | str) -> str:
    if isinstance(environment, str):
        return f"<pre><code>{_text(environment)}</code></pre>"
    rows = "".join(f"<tr><th scope=row>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in environment.items())
    return f'<div class="scroll"><table class="plain"><tbody>{rows}</tbody></table></div>'


def _table(table: Table) -> str:
    numeric = [_is_numeric(row[column] for row in table.rows) for column in range(len(table.columns))]
    heads = "".join(_head(name, number, sorts=table.sorts) for name, number in zip(table.columns, numeric, strict=True))
    rows = "".join(
        f"<tr>{''.join(_cell(cell, number, sorts=table.sorts) for cell, number in zip(row, numeric, strict=True))}</tr>\n"
        for row in table.rows
    )
    caption = _caption(table.caption)
    grid = f"<table{' class=sorts' if table.sorts else ''}><thead><tr>{heads}</tr></thead><tbody>\n{rows}</tbody></table>"
    kind = "scroll tall" if len(table.rows) > TALL_TABLE else "scroll"
    return f'<div class="block"><h3>{_text(table.title)}</h3><div class="{kind}" tabindex="0">{grid}</div>{caption}</div>'


def _is_numeric(cells: Iterable[TableCell]) -> bool:
    return all(not isinstance(cell, str) for cell in cells)


def _number_class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _head(name: str, numeric: bool, *, sorts: bool) -> str:
    """The head of a column; one that sorts is a button, which works once the script has run."""
    text = f"<button type=button disabled>{_text(name)}</button>" if sorts else _text(name)
    return f"<th scope=col{_number_class(numeric)}>{text}</th>"


def _cell(cell: TableCell, numeric: bool, *, sorts: bool = False) -> str:
    value = f' data-value="{_text(sort_value(cell))}"' if sorts else ""
    return f"<td{_number_class(numeric)}{value}>{_cell_text(cell)}</td>"


def _cell_text(cell: TableCell) -> str:
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, Estimate):
        value, interval = format_estimate(cell)
        return f'{value} <span class="interval">{interval}</span>' if interval else value
    return _text(cell if isinstance(cell, str) else format_number(cell))


def _alone(figures: Sequence[Figure]) -> set[int]:
    """The figures that would leave half of their row empty where two stand side by side."""
    alone: set[int] = set()
    waiting: int | None = None  # the left one of a pair whose right one has not come yet
    for index, figure in enumerate(figures):
        if figure.wide:
            alone |= {waiting} if waiting is not None else set()
            waiting = None
        else:
            waiting = index if waiting is None else None
    return alone | ({waiting} if waiting is not None else set())


def _figure(figure: Figure, index: int, *, alone: bool) -> str:
    """A figure's ids get its number, for two drawings on one page would otherwise share them. alone: it has a row to itself."""
    svg = _TAG.sub(lambda tag: _ID.sub(lambda match: f"{match[1]}f{index}-", tag[0]), figure.svg)
    caption = _caption(figure.caption)
    kind = "block wide" if figure.wide else "block alone" if alone else "block"
    return (
        f'<figure class="{kind}"><figcaption><h3>{_text(figure.title)}</h3></figcaption><div class="scroll">{svg}</div>{caption}</figure>'
    )


def _strip(strip: Strip) -> str:
    verdict = {True: ' class="right"', False: ' class="wrong"', None: ""}[strip.right]
    head = f'<div class="block"><h3{verdict}>{_text(strip.title)}</h3>'
    caption = _caption(strip.caption)
    (label, image), *others = strip.rows
    if not label and not others:
        return f'{head}<img class="picture" src="{_text(image)}" alt="{_text(strip.title)}">{caption}</div>'
    rows = "".join(
        f'<tr><th scope=row>{_text(label)}</th><td><img src="{_text(image)}" alt="{_text(f"{label}: {strip.title}")}"></td></tr>'
        for label, image in strip.rows
    )
    return f'{head}<div class="scroll" tabindex="0"><table class="strip"><tbody>{rows}</tbody></table></div>{caption}</div>'


def _caption(text: str) -> str:
    """A line of small print; a number keeps its per cent sign beside it."""
    return f'<p class="caption">{_text(text.replace(" %", chr(0xA0) + "%"))}</p>' if text else ""


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
