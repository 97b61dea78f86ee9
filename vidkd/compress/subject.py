"""What a recipe is done to: a classifier of clips, or a detector. What both share, and what is checked before the first step."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from vidkd.base.errors import ConfigError, VidkdError, require_all
from vidkd.base.settings import merge
from vidkd.compress.compressed import Compressed
from vidkd.compress.export import Exported, Judged, Source, export, float_bytes, packages, size_of_file, write_card
from vidkd.compress.factorise import factorise
from vidkd.compress.graph import matched
from vidkd.compress.parity import Samples
from vidkd.compress.prune import layers_with_weights, prune
from vidkd.compress.quantise import Integers, warn_if_saturating
from vidkd.compress.recipe import (
    TOLERANCE,
    ExportConfig,
    FactoriseConfig,
    Format,
    PruneConfig,
    QuantiseConfig,
    Recipe,
    RepairConfig,
    Step,
    repaired_settings,
)
from vidkd.detection.opening import EXPORTED
from vidkd.engine.devices import pick_device
from vidkd.engine.loop import RunResult
from vidkd.engine.training_run import count_bad
from vidkd.models.macs import network_cost
from vidkd.models.saved import checkpoint_in
from vidkd.runtime.opening import library_name

# How a recipe allows a larger difference between file and network.
MORE_TOLERANCE = "tolerance: X in the step `export`"
# Formats that a library runs, so that their files are judged, and that hold integers.
RUN: tuple[Format, ...] = ("onnx", "xml")


@dataclass(frozen=True, kw_only=True)
class Made:
    """model: the network in float, a checkpoint or the folder of a run. file: what is judged instead where it was exported.

    further: more files that it was exported to and that are judged too. notes: what happened to its layers; plain values. files: all that
    the step wrote and that may not get lost.
    """

    model: Path
    file: Path | None = None
    further: tuple[Path, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


# The 95 % interval of the main metric of an outcome; None where it cannot be known. It is worked out by a layer above.
Interval = Callable[[Mapping[str, Any]], tuple[float, float] | None]


class Subject(ABC):
    """A kind of network that recipes know. Every step gets the network as a path and makes a new one in its folder.

    original: the student before any step. counted: what it is judged on, as its counts name it. formats: what it is exported to,
    as `source_kind`. interval: of the main metric, for cards.
    """

    counted: ClassVar[str]
    formats: ClassVar[tuple[Format, ...]]
    source_kind: ClassVar[type[Source]]
    config: Any

    def __init__(self, recipe: Recipe, original: Path, interval: Interval | None) -> None:
        self.original = original
        self._recipe, self._interval = recipe, interval or (lambda _: None)
        self._found: dict[Path, dict[str, Any]] = {}
        self._original_files: dict[str, int] = {}
        self._sources: dict[Path, Source] = {}
        self._integers: Integers | None = None  # a recipe quantises once
        if original.suffix.lower() != ".cfg" and (recipe.weights or recipe.names):
            raise ConfigError(f"`weights` and `names` belong to a darknet cfg, and the student is {original}", hint="leave them out")

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """What steps are compared by; more is better."""

    @property
    @abstractmethod
    def data_name(self) -> str:
        """The data set, in words."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What numbers depend on besides the student: the settings of its training, of data and judging, the data set; plain values."""

    @abstractmethod
    def learns_from(self, step: Step) -> Any:
        """What a step depends on that its settings do not hold: the content of a teacher or footage; plain values. None: nothing."""

    @abstractmethod
    def load(self, path: Path) -> Any:
        """The network of a step with its classes. Raises as its reader."""

    @abstractmethod
    def network(self, saved: Any) -> tuple[nn.Module, Tensor]:
        """The module of what `load` gave, and an example of its input."""

    @abstractmethod
    def source(self, model: Path) -> Source:
        """The network at a path, for export."""

    @abstractmethod
    def _train(self, model: Path, config: RepairConfig, folder: Path) -> RunResult:
        """Train what is left, as a run in this folder."""

    @abstractmethod
    def _check_step(self, step: Step) -> None:
        """Raise for a step that this kind of network, or its data, cannot do: ConfigError or DataError."""

    @abstractmethod
    def _training(self, net: nn.Module) -> tuple[Iterable[dict[str, Any]], int, Callable[[dict[str, Any]], Tensor | None]]:
        """TAYLOR_BATCHES training batches, how many of their files may be unreadable, and the loss of a network on one (None: no label)."""

    @abstractmethod
    def _save(self, folder: Path, model: Path, saved: Any, done: Compressed[Any], /) -> Made:
        """Write the network that a step made of what was loaded from `model`."""

    @abstractmethod
    def _ranges(self, config: QuantiseConfig) -> Integers:
        """Integers, with the samples on which the ranges of activations are found."""

    @abstractmethod
    def _samples(self) -> Samples:
        """What files are compared with their network on."""

    @abstractmethod
    def _judged(self, made: Made) -> dict[str, Any]:
        """`metrics`, `predictions` (compact rows, for intervals) and `counts` of the file, or else of the network."""

    def check(self, steps: Sequence[Step], ahead: Sequence[Step]) -> None:
        """Raise for a step that this network, its data or this machine cannot do, before anything is done: ConfigError or DataError.

        ahead: those of the steps that are not finished yet, whose packages must be there: MissingExtraError.
        """
        pick_device(self.config.train.device, flag="--train.device")
        net, _ = self.network(self.load(self.original))
        quantised = factorised = False
        for step in steps:
            settings = step.settings
            with _naming(step):
                quantised |= isinstance(settings, QuantiseConfig)
                if isinstance(settings, ExportConfig):
                    self._check_formats(settings, quantised=quantised)
                if isinstance(settings, PruneConfig | FactoriseConfig | QuantiseConfig) and not factorised:
                    self._check_excluded(settings, net)
                factorised |= isinstance(settings, FactoriseConfig)  # which renames layers
                self._check_step(step)
                require_all(self._packages(step) if step in ahead else ())
            if isinstance(settings, QuantiseConfig):
                warn_if_saturating(settings, "quantise: {weight_bits: 7}")

    def _check_formats(self, config: ExportConfig, *, quantised: bool) -> None:
        known = RUN if quantised else self.formats
        if wrong := [form for form in config.formats if form not in known]:
            what = "no files in integers" if quantised else "this kind of network has no files"
            raise ConfigError(f"{what} of format {', '.join(wrong)}", known=", ".join(known))
        if quantised and config.tolerance != TOLERANCE:
            raise ConfigError("files in integers are held to no tolerance", hint="leave out tolerance: the difference is recorded")

    def _check_excluded(self, config: PruneConfig | FactoriseConfig | QuantiseConfig, net: nn.Module) -> None:
        """Raise ConfigError for a pattern in `exclude` that fits no layer; those of integers are of layers as graphs name them."""
        if isinstance(config, QuantiseConfig):
            matched([pattern for pattern in config.exclude if not pattern.startswith("node")], self._layers_of_graph(net))
        else:
            matched(config.exclude, (name for name, _ in net.named_modules() if name))

    def _layers_of_graph(self, net: nn.Module) -> list[str]:
        return [*layers_with_weights(net)]

    def _packages(self, step: Step) -> Iterator[tuple[str, str]]:
        formats = step.settings.formats if isinstance(step.settings, ExportConfig) else ()
        return packages((step.kind, *formats, *(("onnx",) if step.kind == "quantise" else ())), self.source_kind)

    def _settings(self, own: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a run over those of the recipe, these over `own`: those of the student's run."""
        return repaired_settings(own, merge(merge({}, self._recipe.settings), over), original=str(self.original))

    def _losses(self, net: nn.Module) -> Iterator[Tensor]:
        """The loss of a network on training batches, for Taylor's criterion. Raises DataError where too many cannot be read."""
        batches, most, loss_of = self._training(net)
        bad: list[str] = []
        for batch in batches:
            count_bad(batch, bad, most=most)
            # without an index none of its samples could be read, or nothing observed
            if "index" in batch and (loss := loss_of(batch)) is not None:
                yield loss

    def repair(self, model: Path, config: RepairConfig, folder: Path) -> Made:
        """Train what is left, as a run in this folder."""
        result = self._train(model, config, folder)
        notes = {"steps": result.steps, "train_seconds": round(result.seconds, 2)}
        return Made(model=result.folder, notes=notes, files=(checkpoint_in(result.folder),))

    def change(self, model: Path, step: Step, folder: Path, *, whole: Path) -> Made:
        """Prune or factorise. whole: the network before the first part of a pruning in several steps."""
        saved, settings = self.load(model), step.settings
        net, example = self.network(saved)
        done: Compressed[Any]
        if isinstance(settings, PruneConfig):
            before = self.network(self.load(whole))[0] if step.part > 1 else None
            losses = self._losses if settings.criterion == "taylor" else None
            done = prune(net, example, settings, step=step.part, whole=before, losses=losses)
        else:
            assert isinstance(settings, FactoriseConfig)
            done = factorise(net, example, settings)
        return self._save(folder, model, saved, done)

    def _source(self, model: Path) -> Source:
        """`source`, once for a network that several steps and formats export, for to trace it takes seconds."""
        if model not in self._sources:
            self._sources[model] = self.source(model)
        return self._sources[model]

    def export(self, model: Path, config: ExportConfig, integers: QuantiseConfig | None, judged: Mapping[str, Any], folder: Path) -> Made:
        """Write the files that ship, in integers where the network was quantised. judged: the last outcome in float, for the card."""
        source, samples, notes = self._source(model), self._samples(), dict[str, Any]()
        if integers is not None:
            self._integers = self._integers or self._ranges(integers)
            notes["calibration"] = self._integers.source
        run: list[Path] = []
        files: list[Path] = []
        for form in config.formats:
            path = folder / (f"{EXPORTED}.weights" if form == "darknet" else f"model.{form}")
            exported = export(source, path, samples, tolerance=config.tolerance, integers=self._integers, more=MORE_TOLERANCE)
            of_file: list[Judged] = []
            if form in RUN:
                run.append(path)
                self._found[path] = self._judged(Made(model=model, file=path))
                of_file = [self._for_card(self._found[path], f", by {library_name(path)}")]
            card = write_card(exported, data=self.data_name, judged=[self._for_card(judged)], of_file=of_file, licence=config.licence)
            files += [*exported.files, card]
            add_to_notes(notes, exported)
        return Made(model=model, file=run[0] if run else None, further=tuple(run[1:]), notes=notes, files=tuple(files))

    def _for_card(self, judged: Mapping[str, Any], by: str = "") -> Judged:
        """The main metric of an outcome. by: what runs it, where it is a file."""
        on = f"{judged['counts'][self.counted]} {self.counted} of '{self._recipe.subset}'{by}"
        return Judged(metric=self.main_metric, value=judged["metrics"][self.main_metric], ci95=self._interval(judged), on=on)

    def figures(self, made: Made) -> dict[str, Any]:
        """What outcome.json holds of a network or file: its judgement, `parameters`, `macs` of one clip or picture, `bytes` of the weights
        (of the file where there is one), and `original_bytes`: of the student before any step in the same form.
        """
        net, example = self.network(self.load(made.model))
        cost, file = network_cost(net, example), made.file
        if file is None:
            bytes_, original = bytes_of(net), bytes_of(self.network(self.load(self.original))[0])
        else:
            if file.suffix not in self._original_files:
                self._original_files[file.suffix] = float_bytes(self._source(self.original), file.suffix)
            bytes_, original = size_of_file(file), self._original_files[file.suffix]
        costs = {"parameters": cost.parameters, "macs": cost.macs, "bytes": bytes_, "original_bytes": original}
        # a file that was judged for its card is not judged again
        return {**costs, **(self._judged(made) if file is None or file not in self._found else self._found.pop(file))}


def bytes_of(net: nn.Module) -> int:
    """Bytes of all tensors of a network, as they lie in memory."""
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())


def add_to_notes(notes: dict[str, Any], exported: Exported) -> None:
    """Add one more exported file to the notes of a step.

    Under `parity`, by its name, how near it is to the network, with a `warning` where it is in integers and mostly differs; of one in
    integers also which layers are and which are not.
    """
    parity, quantised = exported.parity, exported.quantised
    near = notes.setdefault("parity", {})[exported.path.name] = {"said": str(parity)}
    if quantised is None:
        return
    if parity.apart:
        near["warning"] = f"mostly differs from its network: {parity.apart}"
    notes |= {"layers": dict(quantised.layers), "left": dict(quantised.left), "integer_convolutions": quantised.convolutions}


@contextlib.contextmanager
def _naming(step: Step) -> Iterator[None]:
    """An error of the block names the step that it comes from."""
    try:
        yield
    except VidkdError as error:
        raise error.with_lines(needed_by=f"step {step.name}") from None
