"""The model card next to an exported file: what it was trained on, how good, how large and how fast it is, and under what licence."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkd import __version__
from vidkd.base.files import atomic_write
from vidkd.base.timing import measure
from vidkd.compress.export import Exported

SHOWN_CLASSES = 50


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A metric of the run: its value, its 95 % interval if there is one, and on what it was measured, in words."""

    metric: str
    value: float
    ci95: tuple[float, float] | None
    on: str

    def __str__(self) -> str:
        interval = "no interval" if self.ci95 is None else f"95 % interval {self.ci95[0]:.3f} to {self.ci95[1]:.3f}"
        return f"{self.metric} {self.value:.3f} ({interval}), {self.on}"


def card_path(path: Path) -> Path:
    """Path of the card of an exported file: model.onnx.md for model.onnx."""
    return path.with_name(f"{path.name}.md")


def write_card(
    exported: Exported,
    *,
    data: str | None = None,
    judged: Sequence[Judged] = (),
    of_file: Sequence[Judged] = (),
    why_not: str | None = None,
    licence: str | None = None,
) -> Path:
    """Write the card next to the file; returns its path. Raises WriteError where it cannot be written.

    data: name of the data set. judged: metrics of the network before export, in float even where the file is in integers, of_file: those of
    the file itself, as its library runs it. why_not: the reason for no metrics of the network. licence: of the weights, as the user states
    it.
    """
    path, source, quantised = exported.path, exported.source, exported.quantised
    timed = source.timed(path)
    runs = "vidkd does not run this format" if timed is None else f"vidkd evaluate judges {path.name}"
    before = "; ".join(map(str, judged))
    rows = {
        **source.rows(),
        "Data": data or "unknown",
        "Judged, before export": f"{'' if quantised is None else 'the network in float: '}{before}"
        if before
        else f"not judged: {why_not or 'nothing is known of an evaluation'}",
        "Judged, this file": "; ".join(map(str, of_file)) or f"not judged: {runs}",
        "Size": f"{exported.bytes:,} bytes, {source.parameters:,} parameters",
        "Batch": "any" if source.open_batch else "one clip at a time: the network is bound to its batch size",
        **({} if quantised is None else {"Integers": str(quantised)}),
        "Speed": "not measured" if timed is None else _speed(*timed),
        "Parity": str(exported.parity),
        "Licence of the weights": licence or "unknown: not stated",
        "Written by": f"vidkd {__version__}",
    }
    cells = {name: " ".join(text.replace("|", "\\|").split()) for name, text in rows.items()}
    with atomic_write(card_path(path)) as file:
        file.write(f"# {path.name}\n\n| | |\n|---|---|\n" + "".join(f"| {name} | {text} |\n" for name, text in cells.items()))
    return card_path(path)


def names_text(names: Sequence[str]) -> str:
    """How many classes, and the first SHOWN_CLASSES by name, in a row of a card."""
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    return f"{len(names)}: {', '.join(names[:SHOWN_CLASSES])}{more}"


def _speed(call: Callable[[], object], what: str) -> str:
    """Median and 95th percentile of a call on one thread."""
    timing = measure(call)
    return (
        f"{what}: median {1e3 * timing.median_s:.2f} ms, 95th percentile {1e3 * timing.p95_s:.2f} ms of {timing.n} runs, "
        f"1 thread of {os.cpu_count()} cores of the machine that exported"
    )
