"""What a report is made of: plain data, written to HTML by `report.page`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

SHARES = ("top", "acc", "f1", "precision", "recall", "map", "ap", "ece", "class_mean", "pointing", "mass", "chance")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval (None if unknown). percent: shown times 100; signed: shown with its sign, for differences."""

    value: float
    ci95: tuple[float, float] | None = None
    percent: bool = True
    signed: bool = False

    @classmethod
    def of_pair(cls, pair: Mapping[str, Any] | None) -> "Estimate | None":
        """A difference as `paired` of a summary has it; None where there is none."""
        if pair is None:
            return None
        bounds = pair["ci95"]
        return cls(value=pair["difference"], ci95=None if bounds is None else (bounds[0], bounds[1]), signed=True)


TableCell: TypeAlias = str | int | float | Estimate | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows as wide as `columns`; a cell of None is shown as a dash."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """An SVG drawing. wide: needs the whole width of the page, and scrolls in its box on a phone."""

    title: str
    svg: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One clip: its true and predicted class, and rows (label, PNG data URI) of frames side by side, the frames of all rows in line."""

    title: str
    rows: tuple[tuple[str, str], ...]
    caption: str = ""
    right: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """One page. notes: facts at its head (device, time, size); environment: name -> version.

    text: a paragraph below the subtitle. strips_title: what the strips are; strips_caption: how they are read.
    """

    title: str
    subtitle: str = ""
    text: str = ""
    command: str = ""
    config_text: str = ""
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    strips: tuple[Strip, ...] = ()
    strips_title: str = "Clips"
    strips_caption: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def is_share(metric: str) -> bool:
    """Whether a metric lies in [0, 1] and reads best in per cent: accuracies, F1, mAP and their like, by name."""
    base = metric.split("@")[0]
    return base.endswith("_share") or (metric.startswith(SHARES) and not base.endswith(("_ms", "_s", "_mb")))


def format_number(value: float, *, percent: bool = False, signed: bool = False) -> str:
    """A number as text: per cent with one decimal, counts with thousands apart, anything else with three significant digits."""
    sign = "+" if signed and value > 0 else ""
    if percent:
        text = f"{value * 100:.1f}"
    elif isinstance(value, int) or abs(value) >= 999.5:  # as rounded
        text = f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    else:
        text = f"{value:.3g}"
    if not text.strip("-0."):  # zero, as rounded
        text = text.lstrip("-")
    return (sign + text).replace("-", "\N{MINUS SIGN}")


def format_estimate(estimate: Estimate) -> tuple[str, str]:
    """Value and interval as texts: ("71.3", "[68.2, 74.1]"); the interval is empty where it is unknown."""
    value = format_number(estimate.value, percent=estimate.percent, signed=estimate.signed)
    if estimate.ci95 is None:
        return value, ""
    low, high = (format_number(bound, percent=estimate.percent, signed=estimate.signed) for bound in estimate.ci95)
    return value, f"[{low}, {high}]"
