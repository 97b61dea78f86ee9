"""A video classifier for export: its graph as torch.export records it, its ONNX model, its program, and its metadata."""

import dataclasses
import functools
import io
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vidkd import __version__
from vidkd.base.errors import ConfigError, DataError, first_line, require
from vidkd.compress.export import Source, names_text
from vidkd.compress.parity import Parity, Raw, Samples, check_outputs, compare_clips, generated_clips, observed_shares
from vidkd.compress.quantise import Feed, Integers, Quantised
from vidkd.compress.recipe import QuantiseConfig
from vidkd.data.config import DataConfig, shown_settings
from vidkd.data.manifest import Clip
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.setup import evaluation_set
from vidkd.models import VideoClassifier
from vidkd.models.saved import SavedClassifier
from vidkd.runtime.metadata import ATTENTION, CLIP, EMBEDDED_KEY, LOGITS, OBSERVED, ClassifierMetadata, ClipFormat, target_output
from vidkd.runtime.opening import open_exported_classifier

OPSET = 20


class ExportedOutputs(nn.Module):
    """A classifier in eval mode that returns what an exported file does, in the order of `names`."""

    def __init__(self, model: VideoClassifier) -> None:
        super().__init__()
        self.classifier = model.eval()
        maps = [ATTENTION] if "motion" in model.config.attention.map_names else []
        self.names = (LOGITS, *(target_output(name) for name in model.targets), *maps)

    def forward(self, clip: Tensor, observed: Tensor | None = None) -> tuple[Tensor, ...]:
        """Clips (B, C, T, S, S), raw, and the shares that are seen (B,) -> logits (B, K), further logits, log-map (B, T', h, w)."""
        output = self.classifier(clip, observed)
        maps = [output.attention["motion"]] if "motion" in output.attention else []
        return (output.logits, *output.targets.values(), *maps)


class ClassifierSource(Source):
    """A classifier that was trained with these settings of data."""

    suffixes = (".onnx", ".xml", ".pt2")
    traced_by = (("onnxscript", "export"),)

    def __init__(self, saved: SavedClassifier, data: DataConfig, named: Path | str) -> None:
        super().__init__(saved.model.cpu(), named)
        self.saved, self.data = saved, data
        self.metadata = classifier_metadata(saved, data)
        self.outputs = ExportedOutputs(saved.model)

    @functools.cached_property
    def program(self) -> ExportedProgram:
        """The graph, for any batch; for one clip at a time where the network's code binds it to its batch size.

        Raises ConfigError for a network that torch does not follow.
        """
        try:
            # of two clips: one would be taken for a batch size that never changes
            return _recorded(self.outputs, self._inputs(2), open_batch=True)
        except _BatchBoundError:
            self.open_batch = False
            return _recorded(self.outputs, self._inputs(1), open_batch=False)

    def _inputs(self, clips: int) -> tuple[Tensor, ...]:
        """Inputs of the shape and type that the file takes; shares of clips where it takes those too."""
        clip = torch.zeros((clips, *self.metadata.clip_shape), dtype=torch.uint8 if self.metadata.view == "rgb" else torch.float32)
        return (clip, torch.ones(clips)) if self.metadata.observed else (clip,)

    @functools.cached_property
    def _onnx(self) -> Any:
        model = onnx_program(self)
        # the exporter notes at every node the lines of code and the paths of this machine that it comes from
        for part in (*model.graph.all_nodes(), *model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values(), model):
            part.metadata_props.clear()
        return model

    def graph(self, *, quantised: bool) -> bytes:
        """See `Source`."""
        self._onnx.metadata_props[EMBEDDED_KEY] = classifier_metadata(self.saved, self.data, quantised=quantised).to_json()
        return bytes(require("onnx_ir", "export").to_proto(self._onnx).SerializeToString())

    def write(self, path: Path, integers: Integers | None) -> Quantised | None:
        """See `Source`."""
        if path.suffix.lower() != ".pt2":
            return super().write(path, integers)
        for node in self.program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = io.BytesIO()  # not to the file at once: torch hides its errors
            torch.export.save(self.program, whole, extra_files={f"{EMBEDDED_KEY}.json": self.metadata.to_json()})
        path.write_bytes(whole.getvalue())
        return None

    def compare(self, path: Path, samples: Samples | None) -> Parity:
        """See `Source`."""
        clips = samples or generated_clips(self.metadata)
        shares = torch.from_numpy(observed_shares(len(clips.values))) if self.metadata.observed else None
        with torch.inference_mode():
            found = [each.numpy() for each in self.outputs(torch.from_numpy(clips.values), shares)]
        check_outputs(found, clips.source)
        raw = self._run_program(path) if path.suffix.lower() == ".pt2" else open_exported_classifier(path, device="cpu").raw
        return compare_clips(dict(zip(self.outputs.names, found, strict=True)), raw, clips)

    def _run_program(self, path: Path) -> Raw:
        # what was written a moment ago is trusted; a file from elsewhere is never read in this way
        network = torch.export.load(path).module()

        def raw(clips: NDArray[Any], shares: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
            piece, found = len(clips) if self.open_batch else 1, []
            for start in range(0, len(clips), piece):
                inputs = [torch.from_numpy(each[start : start + piece]) for each in (clips, shares)]
                with torch.inference_mode():
                    found.append([each.numpy() for each in network(*inputs[: 2 if self.metadata.observed else 1])])
            return dict(zip(self.outputs.names, map(np.concatenate, zip(*found, strict=True)), strict=True))

        return raw

    def rows(self) -> dict[str, str]:
        """See `Source`."""
        metadata = self.metadata
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
            "Resizing": resizing_text(self.data),
            "Trained for": seen,
            "Classes": names_text(metadata.classes),
            **{f"Further label {name}": names_text(names) for name, names in metadata.targets.items()},
        }

    def timed(self, path: Path) -> tuple[Callable[[], object], str] | None:
        """See `Source`."""
        if path.suffix.lower() == ".pt2":
            return None
        classifier = open_exported_classifier(path, device="cpu", threads=1)
        clip = self._inputs(1)[0].numpy()
        return lambda: classifier(clip), "one clip, network alone"


def resizing_text(data: DataConfig) -> str:
    """How frames of any size become what the network sees, in a row of a card."""
    transform, decoded = data.transform, data.decode_short_side
    short, crop = transform.short_side, transform.crop
    first = f"a shorter side above {decoded} pixels is shrunk to that when decoded; " if decoded else ""
    if transform.square:
        return f"{first}stretch: both sides scaled apart to {short} x {short} pixels, then to {crop} x {crop}; nothing cut or padded"
    which = (
        "the middle square" if data.eval_crops == 1 else f"the middle square (judged on {data.eval_crops} squares along the longer side)"
    )
    return (
        f"{first}crop: aspect kept, the shorter side to {short} pixels; {which} of that side is cut out and resized to {crop} x {crop}; "
        "nothing padded"
    )


class _BatchBoundError(Exception):
    """The network's code holds for one batch size alone."""


def _recorded(outputs: ExportedOutputs, inputs: tuple[Tensor, ...], *, open_batch: bool) -> ExportedProgram:
    dynamic = ({0: Dim("batch")},) * len(inputs) if open_batch else None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(outputs, inputs, dynamic_shapes=dynamic)
        except Exception as error:  # whatever the network's own code raises while it is recorded
            if open_batch and "Constraints violated (batch)" in str(error):
                raise _BatchBoundError from error
            raise ConfigError("the network cannot be exported: torch.export does not follow it", reason=_named(error)) from error


def onnx_program(source: ClassifierSource) -> Any:
    """The graph as a model of onnx_ir with its inputs and outputs named. Raises ConfigError naming the operation that ONNX lacks."""
    require("onnxscript", "export")
    program, aten = source.program, torch.ops.aten
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if any(node.target is aten.adaptive_avg_pool3d.default for node in program.graph.nodes):  # which the exporter cannot translate
            program = program.run_decompositions({aten.adaptive_avg_pool3d.default: adaptive_avg_pool3d})
        try:
            converted = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[CLIP, OBSERVED] if source.metadata.observed else [CLIP],
                output_names=list(source.outputs.names),
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise _no_onnx(error) from error
    assert converted is not None
    return converted.model


def adaptive_avg_pool3d(values: Tensor, grid: Sequence[int]) -> Tensor:
    """Adaptive pooling as torch has it, (..., T, H, W) -> (..., *grid), in operations that ONNX has, one axis after another.

    Cell k of n on an axis of length m averages from floor(k m / n) to ceil((k + 1) m / n), as torch's documentation has it.
    """
    for axis, cells in zip((-3, -2, -1), grid, strict=True):
        length = values.shape[axis]
        spans = [(k * length // cells, -(-(k + 1) * length // cells)) for k in range(cells)]
        values = torch.stack([values.narrow(axis, start, end - start).mean(axis) for start, end in spans], axis)
    return values


def _no_onnx(error: BaseException) -> ConfigError:
    """Which operation has no counterpart, as the errors before this one say it."""
    text, reason = str(error), error
    while reason.__cause__ is not None:
        reason = reason.__cause__
        text += str(reason)
    named = re.search(r"target=torch\.ops\.([\w.]+)", text)
    operation = {"operation": named[1]} if named else {}
    return ConfigError("the network cannot be exported: ONNX has no counterpart of an operation", **operation, reason=_named(reason))


def _named(error: BaseException) -> str:
    kind, line = type(error).__name__, first_line(error)
    return line if line == kind else f"{kind}: {line}"


def classifier_metadata(saved: SavedClassifier, data: DataConfig, *, quantised: bool = False) -> ClassifierMetadata:
    """The metadata of a classifier that was trained with these settings. No path of this machine is among them.

    quantised: whether its file computes in integers.
    """
    model, spec = saved.model, saved.model.normalise.spec
    return ClassifierMetadata(
        classes=saved.classes,
        targets=dict(saved.targets),
        view=saved.view,
        input=ClipFormat(
            frames=data.window.frames,
            size=data.transform.crop,
            mean=tuple(float(value) for value in spec.mean),
            std=tuple(float(value) for value in spec.std),
            bound_px=spec.bound_px,
        ),
        observed=model.config.condition_on_observed,
        map_shift_cells=model.map_shift_cells if "motion" in model.config.attention.map_names else None,
        shown=shown_settings(data),
        trained={
            "task": str(saved.run.get("task", "unknown")),
            "backbone": model.config.backbone,
            "changes": [*(str(change["kind"]) for change in model.changes), *(["quantise"] if quantised else [])],
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "learned": None if saved.learned is None else dict(saved.learned),
            "seen": None if saved.seen is None else list(saved.seen),
        },
        vidkd=__version__,
    )


def integers_of(run: RunConfig, metadata: ClassifierMetadata, config: QuantiseConfig) -> Integers:
    """Integers with ranges on labelled training clips of a run, as an evaluation shows them, drawn over the classes.

    Clips that judge (`val`, `test`) are never among them. Where the network is judged at several observed fractions, these take turns.
    Raises as `drawn` and `read_clips_of_run` do.
    """
    found = read_clips_of_run(run)
    chosen = drawn(found.train, config, metadata.classes)
    data = dataclasses.replace(run.data, eval_clips=1, eval_crops=1)
    fractions = data.observe.judged_fractions
    samples = [evaluation_set(found, "train", data, [metadata.view], fraction=fraction) for fraction in fractions]
    feeds: list[Feed] = []
    for turn, number in enumerate(chosen):
        clip = samples[turn % len(samples)][(0, number)][metadata.view].numpy()
        share = np.array([fractions[turn % len(fractions)] or 1.0], np.float32)
        feeds.append(
            {CLIP: clip[None].astype(np.uint8 if metadata.view == "rgb" else np.float32)} | ({OBSERVED: share} if metadata.observed else {})
        )
    labels = {found.train[number].label for number in chosen}
    return Integers(config=config, feeds=feeds, source=f"{len(chosen)} training clips of {len(labels)} classes")


def drawn(clips: Sequence[Clip], config: QuantiseConfig, classes: Sequence[str]) -> list[int]:
    """Numbers of up to as many clips as the settings say: shuffled within each class, then one of each class after another.

    Raises DataError for no clips, ConfigError where all are of one of several classes (a range would miss the outputs of the others).
    """
    rng = np.random.default_rng(config.seed)
    turns: dict[int | None, int] = {}
    rank = []
    for number in rng.permutation(len(clips)):
        label = clips[number].label
        rank.append((turns.get(label, 0), int(number)))
        turns[label] = turns.get(label, 0) + 1
    chosen = [number for _, number in sorted(rank, key=lambda entry: entry[0])][: config.clips]
    labels = {clips[number].label for number in chosen}
    if not chosen:
        raise DataError("there are no labelled training clips to find ranges on")
    if len(labels) == 1 and len(classes) > 1:
        name = classes[next(iter(labels)) or 0]
        raise ConfigError(f"all {len(chosen)} clips to find ranges on are of one class: {name}", hint="more clips, of every class")
    return chosen
