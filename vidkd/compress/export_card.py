"""The model card beside an exported file: what it was trained on, how good, how large and how fast it is, and under what licence."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidkd import __version__
from vidkd.base.files import atomic_write
from vidkd.base.timing import Timing, measure
from vidkd.compress.export import Exported, told_if_unwritable
from vidkd.compress.parity import Parity
from vidkd.runtime.metadata import ClassifierMetadata
from vidkd.runtime.opening import open_exported_classifier

SHOWN_CLASSES = 50
UNKNOWN = "unknown: nobody stated it"


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
    """Where the card of an exported file lies: model.onnx.md beside model.onnx."""
    return path.with_name(f"{path.name}.md")


def write_card(
    exported: Exported[ClassifierMetadata, Parity],
    *,
    data: str | None = None,
    judged: Sequence[Judged] = (),
    of_file: Sequence[Judged] = (),
    why_not: str | None = None,
    licence: str | None = None,
) -> Path:
    """Write the card beside the file; returns its path.

    data: name of the data set. judged: metrics of the network before export, of_file: those of the file itself, as its library runs it.
    why_not: the reason for no metrics of the network. licence: of the weights, as the user states it.
    """
    rows = {
        **_network(exported.metadata),
        "Data": data or "unknown",
        **judged_rows(exported.path, judged, of_file, integers=exported.quantised is not None, why_not=why_not),
        "Size": f"{exported.bytes:,} bytes, {exported.parameters:,} parameters",
        "Batch": "any" if exported.open_batch else "one clip at a time: the network is bound to its batch size",
        **({} if exported.quantised is None else {"Integers": str(exported.quantised)}),
        "Speed": _speed(exported.path),
        "Parity": str(exported.parity),
    }
    return write_rows(exported.path, rows, licence=licence)


def write_rows(exported: Path, rows: Mapping[str, str], *, licence: str | None) -> Path:
    """Write these rows as the card of an exported file, with the licence of the weights and who wrote it; returns its path.

    Raises ConfigError where it cannot be written.
    """
    closing = {"Licence of the weights": licence or UNKNOWN, "Written by": f"vidkd {__version__}"}
    lines = [f"# {exported.name}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in {**rows, **closing}.items()]
    path = card_path(exported)
    with told_if_unwritable(path), atomic_write(path) as file:
        file.write("\n".join(lines) + "\n")
    return path


def _network(metadata: ClassifierMetadata) -> dict[str, str]:
    channels, frames, size, _ = metadata.clip_shape
    window, observe, trained = metadata.shown["window"], metadata.shown["observe"], metadata.trained
    seen = {
        "whole": "whole clips",
        "early": f"early recognition at fractions {', '.join(f'{share:g}' for share in observe['fractions'])}",
        "anticipation": f"anticipation, {observe['gap_s']:g} s ahead, of {observe['observe_s'] or 'all'} s observed",
    }[observe["protocol"]]
    return {
        "Network": ", ".join([trained["backbone"], *trained["changes"]]) + f", trained by {trained['task']}",
        "Sees": f"{metadata.view}, {channels} x {frames} x {size} x {size}, {window['rule']} windows, stride {window['stride']}",
        "Resizing": resizing_text(metadata.shown),
        "Trained for": seen,
        "Classes": names_text(metadata.classes),
        **{f"Further label {name}": names_text(names) for name, names in metadata.targets.items()},
    }


def resizing_text(shown: Mapping[str, Any]) -> str:
    """How frames of any size become what the network sees, in a row of a card. shown: as the file carries it."""
    transform, decoded, crops = shown["transform"], shown["decode_short_side"], shown["eval_crops"]
    short, crop = transform["short_side"], transform["crop"]
    first = f"a shorter side above {decoded} pixels is shrunk to that when decoded; " if decoded else ""
    if transform["square"]:
        return f"{first}stretch: both sides scaled apart to {short} x {short} pixels, then to {crop} x {crop}; nothing cut or padded"
    which = "the middle square" if crops == 1 else f"the middle square (judged on {crops} squares along the longer side)"
    return (
        f"{first}crop: aspect kept, the shorter side to {short} pixels; {which} of that side is cut out and resized to {crop} x {crop}; "
        "nothing padded"
    )


def names_text(names: Sequence[str]) -> str:
    """How many classes, and the first SHOWN_CLASSES by name, in a row of a card."""
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    return f"{len(names)}: {', '.join(names[:SHOWN_CLASSES])}{more}"


def _speed(path: Path) -> str:
    """Latency of the file as vidkd runs it on one core, of the network alone."""
    if path.suffix.lower() == ".pt2":
        return "not measured: vidkd does not run this format"
    classifier = open_exported_classifier(path, device="cpu", threads=1)
    dtype = np.uint8 if classifier.view == "rgb" else np.float32
    clip = np.zeros((1, *classifier.metadata.clip_shape), dtype)
    return latency_text(lambda: classifier(clip), "one clip, network alone")


def judged_rows(
    path: Path, network: Sequence[Judged], file: Sequence[Judged], *, integers: bool, why_not: str | None = None
) -> dict[str, str]:
    """Rows of a card: metrics of the network before export, in float even where the file is in integers, and of the file itself."""
    text = "; ".join(map(str, network))
    told = f"the network in float: {text}" if text and integers else text
    runs = f"vidkd evaluate judges {path.name}" if path.suffix.lower() != ".pt2" else "vidkd does not run this format"
    return {
        "Judged, before export": told or f"not judged: {why_not or 'nothing is known of an evaluation'}",
        "Judged, this file": "; ".join(map(str, file)) or f"not judged: {runs}",
    }


def latency_text(call: Callable[[], object], what: str) -> str:
    """Median and 95th percentile of a call on one thread, in a row of a card."""
    timing: Timing = measure(call, what=what)
    return (
        f"{timing.what}: median {1e3 * timing.median_s:.2f} ms, 95th percentile {1e3 * timing.p95_s:.2f} ms of {timing.n} runs, "
        f"1 thread of {os.cpu_count()} cores of the machine that exported"
    )


def _cell(text: str) -> str:
    """Text that stays in its cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
