"""What a recipe is done to: a classifier of clips, or a detector. What both have alike, and what is asked before the first step."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from vidkd.base.errors import VidkdError
from vidkd.base.extras import require
from vidkd.compress.config import FactoriseConfig, PruneConfig, QuantiseConfig
from vidkd.compress.export import size_of
from vidkd.compress.export_card import Judged
from vidkd.compress.factorise import methods_of
from vidkd.compress.graph import matched
from vidkd.compress.parity import Nearness
from vidkd.compress.quantise import Quantised
from vidkd.compress.recipe import ExportConfig, Format, Recipe, RepairConfig, Step
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.evaluate import DetectorJudgement, RecallJudgement
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.layers import ConvolutionBlock
from vidkd.models.macs import network_cost
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


@dataclass(frozen=True, kw_only=True)
class Made:
    """model: the network in float, a checkpoint or the folder of a run. file: what is judged in its place where it was exported.

    further: more files that it was exported to and that are judged too. notes: what happened to its layers; plain values. files: all that
    the step wrote and that may not get lost.
    """

    model: Path
    file: Path | None = None
    further: tuple[Path, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


Interval = Callable[[Mapping[str, Any]], tuple[float, float] | None]
"""The 95 % interval of the main metric of an outcome; None where it cannot be known. What works it out stands above this room."""


def no_interval(_: Mapping[str, Any]) -> None:
    """The interval of whoever asks for none."""


BoxDraws = Callable[[DetectorJudgement | RecallJudgement, BoxManifest], Sequence[float]]
"""The main metric of a detector's judgement in draws of groups of its frames, the same draws for all that were judged on these."""


def no_draws(_: DetectorJudgement | RecallJudgement, __: BoxManifest) -> Sequence[float]:
    """The draws of whoever asks for none."""
    return ()


def export_notes(notes: Mapping[str, Any], file: Path, parity: Nearness, quantised: Quantised | None) -> dict[str, Any]:
    """The notes of a step with those of one more file that it exported.

    Under `parity`, by its name, how near it is to the network, with a `warning` where it is in integers and mostly differs; of one in
    integers also which layers are and which are not.
    """
    near = parity.record()
    if quantised is not None and parity.apart:
        near["warning"] = f"mostly differs from its network: {parity.apart}"
    noted = {**notes, "parity": {**notes.get("parity", {}), file.name: near}}
    if quantised is None:
        return noted
    noted |= {"layers": dict(quantised.layers), "left": dict(quantised.left), "integer_convolutions": quantised.convolutions}
    return noted | ({"sensitivity_db": _finite(quantised.sensitivity)} if quantised.sensitivity else {})


def _finite(noise: Mapping[str, float]) -> dict[str, float | None]:
    """Signal to noise as JSON can hold it: None where there is no noise at all."""
    return {name: value if math.isfinite(value) else None for name, value in noise.items()}


class Subject(ABC):
    """A kind of network that recipes know. Every step gets the network as a path and makes a new one in its folder.

    original: the student before any step. counted: what it is judged on, as its counts name it. interval: of the main metric, for cards.
    """

    counted: ClassVar[str]
    original: Path

    def __init__(self, recipe: Recipe, interval: Interval) -> None:
        self._recipe, self._interval = recipe, interval
        self._found: dict[Path, dict[str, Any]] = {}
        self._original_files: dict[str, int] = {}

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """What steps are compared by; more is better."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What numbers depend on besides the student: the settings of its training, of data and judging, the data set; plain values."""

    @abstractmethod
    def taught_by(self, step: Step) -> str | None:
        """What a step depends on that its settings do not hold: the content of a teacher, defaults of learning. None: nothing."""

    @abstractmethod
    def check(self, steps: Sequence[Step], ahead: Sequence[Step]) -> None:
        """Raise for a step that this network, its data or this machine cannot do, before anything is done: ConfigError or DataError.

        ahead: those of the steps that are not finished yet, whose packages must be there: MissingExtraError.
        """

    @abstractmethod
    def change(self, model: Path, step: Step, folder: Path, *, whole: Path) -> Made:
        """Prune or factorise. whole: the network before the first part of a pruning in several steps."""

    @abstractmethod
    def repair(self, model: Path, config: RepairConfig, folder: Path) -> Made:
        """Train what is left, as a run in this folder."""

    @abstractmethod
    def _writer(self, model: Path, integers: QuantiseConfig | None, config: ExportConfig) -> Writer:
        """What exports the network at `model`. config: its formats aside."""

    @abstractmethod
    def _judged(self, made: Made) -> dict[str, Any]:
        """As `judge`, without what was judged already."""

    @abstractmethod
    def _net(self, model: Path) -> tuple[nn.Module, Tensor]:
        """The network at a path, and an example of its input."""

    @abstractmethod
    def _float_bytes(self, suffix: str) -> int:
        """Size of the file that the student becomes in float."""

    def quantise(self, model: Path, config: QuantiseConfig, judged: Mapping[str, Any], folder: Path) -> Made:
        """Export with integers. judged: the last outcome of the network in float, for the card."""
        return self.export(model, ExportConfig(), config, judged, folder)

    def export(self, model: Path, config: ExportConfig, integers: QuantiseConfig | None, judged: Mapping[str, Any], folder: Path) -> Made:
        """Write the files that ship, in integers where the network was quantised. judged: as in `quantise`."""
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
        """`metrics`, `predictions` (compact rows, for intervals) and `counts`. A file that was judged for its card is not judged again."""
        return self._judged(made) if made.file is None or made.file not in self._found else self._found.pop(made.file)

    def cost(self, made: Made) -> dict[str, Any]:
        """`parameters`, `macs` of one clip or picture, `bytes` of the weights (of the file where there is one), and `original_bytes`.

        original_bytes: of the student before any step in the same form: weights, or a file of this suffix in float.
        """
        net, example = self._net(made.model)
        cost = network_cost(net, example)
        original = size_of(self._net(self.original)[0], None) if made.file is None else self._original_file(made.file.suffix)
        return {"parameters": cost.parameters, "macs": cost.macs, "bytes": size_of(net, made.file), "original_bytes": original}

    def _original_file(self, suffix: str) -> int:
        """Size of the student before any step in a file of this suffix, in float."""
        if suffix not in self._original_files:
            self._original_files[suffix] = self._float_bytes(suffix)
        return self._original_files[suffix]


Packages = Sequence[tuple[str, str]]
"""Modules, each with the extra of vidkd that brings it."""
OF_KIND: dict[str, Packages] = {
    "prune": (("torch_pruning", "compress"),),
    "quantise": (("onnx", "compress"), ("onnxruntime.quantization", "compress")),
}
OF_FORMAT: dict[str, Packages] = {
    "onnx": (("onnx", "export"), ("onnxruntime", "export")),
    "xml": (("onnx", "export"), ("openvino", "openvino")),
}
TRACED: Packages = (("onnxscript", "export"),)
"""What files of OF_FORMAT take besides where torch records the network."""
NODE = "node"
"""How names of nodes begin that stand for layers where a graph does not tell whose weights it holds."""


def check_packages(steps: Sequence[Step], *, traced: bool) -> None:
    """Raise MissingExtraError, naming the step, for a package that it needs and that is not there. traced: see TRACED."""
    for step in steps:
        formats = step.settings.formats if isinstance(step.settings, ExportConfig) else ("onnx",) if step.kind == "quantise" else ()
        needed = [*OF_KIND.get(step.kind, ())]
        for form in formats:
            needed += [*OF_FORMAT.get(form, ()), *(TRACED if traced and form in OF_FORMAT else ())]
        for module, extra in needed:
            try:
                require(module, extra)
            except VidkdError as error:
                raise error.with_lines(needed_by=f"step {step.name}") from None


def check_excluded(steps: Sequence[Step], net: nn.Module) -> None:
    """Raise ConfigError, naming the step, for an `exclude` that fits no layer; after `factorise`, which renames layers, none is."""
    modules, weighted = [name for name, _ in net.named_modules() if name], _weighted(net)
    for step in steps:
        settings = step.settings
        if isinstance(settings, PruneConfig | FactoriseConfig | QuantiseConfig):
            graph = isinstance(settings, QuantiseConfig)
            patterns = [pattern for pattern in settings.exclude if not (graph and pattern.startswith(NODE))]
            try:
                matched(patterns, weighted if graph else modules)
            except VidkdError as error:
                raise error.with_lines(where=f"step {step.name}: exclude") from None
        if isinstance(settings, FactoriseConfig):
            return


def check_methods(steps: Sequence[Step], net: nn.Module) -> None:
    """Raise ConfigError, naming the step, for a method of `factorise` that this kind of network cannot have."""
    for step in steps:
        if isinstance(step.settings, FactoriseConfig):
            try:
                methods_of(net, step.settings)
            except VidkdError as error:
                raise error.with_lines(where=f"step {step.name}: method") from None


def _weighted(net: nn.Module) -> list[str]:
    """Layers with weights as graphs name them: a convolution of a darknet by its section."""
    if isinstance(net, Darknet):
        return [f"layers.{number}" for number, layer in enumerate(net.layers) if isinstance(layer, ConvolutionBlock)]
    matrices = [name.rpartition(".") for name, weight in net.named_parameters() if weight.ndim > 1]
    return [module for module, _, last in matrices if last.startswith("weight")]
