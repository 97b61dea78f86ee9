"""What recipes do with exported files, whatever kind of network is in them: written, judged, told in notes and cards, compared in size."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vidkd.compress.config import QuantiseConfig
from vidkd.compress.export_card import Judged
from vidkd.compress.parity import Nearness
from vidkd.compress.quantise import Quantised
from vidkd.compress.recipe import ExportConfig, Format, Recipe
from vidkd.compress.subject import Interval, Made, export_notes
from vidkd.runtime.opening import library_name

MORE_TOLERANCE = "tolerance: X in the step `export`"
"""How a recipe allows a larger difference between file and network."""
RUN: tuple[Format, ...] = ("onnx", "xml")
"""Formats that a library runs, so that their files are judged."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file that was exported. files: all that was written. card: writes its card, given what is known of the network and of the file."""

    path: Path
    parity: Nearness
    quantised: Quantised | None
    files: tuple[Path, ...]
    card: Callable[[Sequence[Judged], Sequence[Judged]], Path]


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes a network to a folder in a format. calibration: what ranges of integers are found on; empty in float."""

    write: Callable[[Path, Format], Written]
    calibration: str = ""


class ExportingSubject(ABC):
    """The part of a `Subject` that its kinds have alike. counted: what they are judged on, as their counts name it."""

    counted: ClassVar[str]
    original: Path

    def __init__(self, recipe: Recipe, interval: Interval) -> None:
        self._recipe, self._interval = recipe, interval
        self._found: dict[Path, dict[str, Any]] = {}
        self._original_files: dict[str, int] = {}

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """See `Subject`."""

    @abstractmethod
    def _writer(self, model: Path, integers: QuantiseConfig | None, config: ExportConfig) -> Writer:
        """What exports the network at `model`. config: its formats aside."""

    @abstractmethod
    def _judged(self, made: Made) -> dict[str, Any]:
        """As `judge` of `Subject`, done."""

    @abstractmethod
    def _float_bytes(self, suffix: str) -> int:
        """Size of the file that the student becomes in float."""

    def quantise(self, model: Path, config: QuantiseConfig, judged: Mapping[str, Any], folder: Path) -> Made:
        """See `Subject`."""
        return self.export(model, ExportConfig(), config, judged, folder)

    def export(self, model: Path, config: ExportConfig, integers: QuantiseConfig | None, judged: Mapping[str, Any], folder: Path) -> Made:
        """See `Subject`."""
        writer = self._writer(model, integers, config)
        notes: dict[str, Any] = {"calibration": writer.calibration} if writer.calibration else {}
        run: list[Path] = []
        left: list[Path] = []
        for form in config.formats:
            written = writer.write(folder, form)
            notes = export_notes(notes, written.path, written.parity, written.quantised)
            of_file: list[Judged] = []
            if form in RUN:
                run.append(written.path)
                self._found[written.path] = self._judged(Made(model=model, file=written.path))
                of_file = [self._for_card(self._found[written.path], written.path)]
            left += [*written.files, written.card([self._for_card(judged)], of_file)]
        return Made(model=model, file=run[0] if run else None, further=tuple(run[1:]), notes=notes, files=tuple(left))

    def _for_card(self, judged: Mapping[str, Any], file: Path | None = None) -> Judged:
        """The main metric of an outcome, or of a file by what runs it."""
        on = f"{judged['counts'][self.counted]} {self.counted} of '{self._recipe.subset}'"
        by = "" if file is None else f", by {library_name(file)}"
        return Judged(metric=self.main_metric, value=judged["metrics"][self.main_metric], ci95=self._interval(judged), on=on + by)

    def judge(self, made: Made) -> dict[str, Any]:
        """See `Subject`. A file that was judged for its card is not judged again."""
        return self._judged(made) if made.file is None or made.file not in self._found else self._found.pop(made.file)

    def _original_file(self, suffix: str) -> int:
        """Size of the student before any step in a file of this suffix, in float."""
        if suffix not in self._original_files:
            self._original_files[suffix] = self._float_bytes(suffix)
        return self._original_files[suffix]
