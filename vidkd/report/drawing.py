"""A matplotlib figure as an SVG that takes its ink from the page, so that it reads by day and by night."""

import contextlib
import html
import io
import re
from collections.abc import Iterator
from typing import Any, Literal

from vidkd.base.errors import require
from vidkd.report.parts import Figure, format_number

# Stand-ins, replaced by the page's colours in the SVG; the series colours read on light and dark alike.
INK, MUTED, RULE = "#0a0b0c", "#0a0b0d", "#0a0b0e"
_PAGE_COLOURS = {
    INK: "var(--ink, #1d2126)",
    MUTED: "var(--muted, #5f6873)",
    RULE: "var(--rule, #e2e4e7)",
}
SERIES = ("#3d7fb5", "#d98a2b", "#3f9d78", "#9a6fb5", "#c75a48", "#7f8a96")
WIDTH_IN = 4.6

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vidkd",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.0,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@contextlib.contextmanager
def canvas(height_in: float = 3.0, width_in: float = WIDTH_IN) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure and its axes in the house style; draw and call `finish` inside the block. Raises MissingExtraError."""
    matplotlib = require("matplotlib", "report")
    figures = require("matplotlib.figure", "report")
    with matplotlib.rc_context(_STYLE):
        figure = figures.Figure(figsize=(width_in, height_in), layout="constrained")
        yield figure, figure.subplots()


def finish(drawing: Any, title: str, *, caption: str = "", wide: bool = False) -> Figure:
    """The report's figure of a matplotlib figure."""
    file = io.StringIO()
    drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return Figure(title=title, svg=page_svg(file.getvalue(), title), caption=caption, wide=wide)


def log_scale(axes: Any, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers at its powers of ten: mathematical text is not parsed here."""
    from matplotlib.ticker import NullFormatter

    {"x": axes.set_xscale, "y": axes.set_yscale}[which]("log")
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axis.set_major_formatter(lambda value, _: format_number(value))
    axis.set_minor_formatter(NullFormatter())


def page_svg(svg: str, title: str) -> str:
    """Only the drawing of an SVG file: no prologue, no metadata, no addresses, sized by the page, in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    viewbox = re.search(r'viewBox="[^"]*"', opening)
    rest = rest.replace("xlink:href", "href")
    for stand_in, colour in _PAGE_COLOURS.items():
        rest = rest.replace(stand_in, colour)
    return f'<svg {viewbox[0] if viewbox else ""} role="img" aria-label="{html.escape(title)}">{rest.strip()}'


def short(name: str, most: int = 28) -> str:
    """A name short enough for an axis."""
    return name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
