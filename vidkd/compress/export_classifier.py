"""Export of a video classifier to files that run without the code that trained it; each is checked against the network before it is kept.

Formats by suffix: `.onnx` and `.xml` (OpenVINO, weights in the `.bin` beside it), which vidkd runs without torch, and `.pt2` (torch.export;
for other programs: vidkd does not read it, since torch's reader may unpickle).
"""

import contextlib
import io
import math
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vidkd import __version__
from vidkd.base.errors import ConfigError, first_line
from vidkd.base.extras import require
from vidkd.compress.calibration import Calibration
from vidkd.compress.config import TOLERANCE, QuantiseConfig
from vidkd.compress.export import Exported, write_checked, write_openvino
from vidkd.compress.parity import MORE, Clips, Parity, Raw, check_outputs, check_weights, compare, generated_clips, observed_shares
from vidkd.compress.quantise import Quantised, quantise_once
from vidkd.data.config import DataConfig
from vidkd.data.exported import shown_settings
from vidkd.models import VideoClassifier
from vidkd.models.saved import SavedClassifier
from vidkd.runtime.metadata import ATTENTION, CLIP, EMBEDDED_KEY, LOGITS, OBSERVED, ClassifierMetadata, ClipFormat, target_output
from vidkd.runtime.opening import open_exported_classifier

OPSET = 20
EXAMPLE_CLIPS = 2  # one would be taken for a batch size that never changes


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


def said_of(outputs: ExportedOutputs, clips: Clips) -> dict[str, NDArray[Any]]:
    """What the network says of the clips, by the names of its outputs."""
    told = torch.from_numpy(observed_shares(len(clips.values))) if outputs.classifier.config.condition_on_observed else None
    with torch.inference_mode():
        return dict(zip(outputs.names, (each.numpy() for each in outputs(torch.from_numpy(clips.values), told)), strict=True))


def example_inputs(metadata: ClassifierMetadata, clips: int = EXAMPLE_CLIPS) -> tuple[Tensor, ...]:
    """Inputs of the shape and type that the file takes; shares of clips where it takes those too."""
    shape = (clips, *metadata.clip_shape)
    clip = torch.zeros(shape, dtype=torch.uint8) if metadata.view == "rgb" else torch.zeros(shape)
    return (clip, torch.ones(clips)) if metadata.observed else (clip,)


def traced(outputs: ExportedOutputs, metadata: ClassifierMetadata) -> ExportedProgram:
    """The graph as torch.export records it, for any batch; for one clip at a time where the network's code binds it to its batch size.

    Raises ConfigError naming the module in which recording failed.
    """
    try:
        return _recorded(outputs, example_inputs(metadata), open_batch=True)
    except _BatchBoundError:
        return _recorded(outputs, example_inputs(metadata, 1), open_batch=False)


def has_open_batch(program: ExportedProgram) -> bool:
    """Whether a graph takes any number of clips; else it takes one."""
    clip = next(node for node in program.graph.nodes if node.op == "placeholder" and node.name == CLIP)
    return not isinstance(clip.meta["val"].shape[0], int)


class _BatchBoundError(Exception):
    """The network's code holds for one batch size alone."""


def _recorded(outputs: ExportedOutputs, inputs: tuple[Tensor, ...], *, open_batch: bool) -> ExportedProgram:
    dynamic = ({0: Dim("batch")},) * len(inputs) if open_batch else None
    with _watched(outputs) as inside, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(outputs, inputs, dynamic_shapes=dynamic)
        except Exception as error:  # whatever the network's own code raises while it is recorded
            if open_batch and "Constraints violated (batch)" in str(error):
                raise _BatchBoundError from error
            raise ConfigError(
                "the network cannot be exported: torch.export does not follow it",
                module=inside[-1] if inside else "the whole network: see the reason",
                reason=_named(error),
            ) from error


def onnx_program(program: ExportedProgram, outputs: ExportedOutputs, metadata: ClassifierMetadata) -> Any:
    """The graph as a model of onnx_ir with its inputs and outputs named. Raises ConfigError naming module and operation ONNX lacks."""
    require("onnxscript", "export")
    inputs = [CLIP, OBSERVED] if metadata.observed else [CLIP]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            converted = torch.onnx.export(
                _in_operations_of_onnx(program),
                dynamo=True,
                input_names=inputs,
                output_names=list(outputs.names),
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise _no_onnx(program, error) from error
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


def _in_operations_of_onnx(program: ExportedProgram) -> ExportedProgram:
    """The graph without adaptive pooling of three axes, for which the exporter has no translation."""
    aten = torch.ops.aten
    if not any(node.target is aten.adaptive_avg_pool3d.default for node in program.graph.nodes):
        return program
    decomposed: ExportedProgram = program.run_decompositions({aten.adaptive_avg_pool3d.default: adaptive_avg_pool3d})
    return decomposed


def _no_onnx(program: ExportedProgram, error: BaseException) -> ConfigError:
    """Which operation of which module has no counterpart, as the errors before this one tell it."""
    text, reason = str(error), error
    while reason.__cause__ is not None:
        reason = reason.__cause__
        text += str(reason)
    named = re.search(r"%(\w+) : .*?target=torch\.ops\.([\w.]+)", text)
    lines = {"reason": _named(reason)}
    if named is not None:
        lines = {"module": _module_of(program, named[1], named[2]), "operation": named[2], **lines}
    return ConfigError("the network cannot be exported: ONNX has no counterpart of an operation", **lines)


def _module_of(program: ExportedProgram, name: str, operation: str) -> str:
    """The path of the module whose operation became this node; conversion breaks operations up before it fails."""
    nodes = [node for graph in (program, program.run_decompositions()) for node in graph.graph.nodes if node.op == "call_function"]
    ours = [node for node in nodes if node.name == name] or [node for node in nodes if str(node.target) == operation]
    for node in ours:
        stack = node.meta.get("nn_module_stack")
        if stack:
            return _own_path(list(stack.values())[-1][0])
    return "unknown"


@contextlib.contextmanager
def _watched(outputs: ExportedOutputs) -> Iterator[list[str]]:
    """The paths of the modules whose forward has begun and not ended, the innermost one last; it stays as it is at an error."""
    inside: list[str] = []
    handles = []

    def enter(path: str) -> Any:
        return lambda *_: inside.append(path)

    for path, module in outputs.classifier.named_modules():
        handles.append(module.register_forward_pre_hook(enter(path or type(module).__name__)))
        handles.append(module.register_forward_hook(lambda *_: inside.pop() and None))
    try:
        yield inside
    finally:
        for handle in handles:
            handle.remove()


def _own_path(path: str) -> str:
    """A module's path below the classifier."""
    return path.removeprefix("classifier.") if path != "classifier" else "the classifier itself"


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
            "changes": [*(str(change.get("kind", "unknown")) for change in model.changes), *(["quantise"] if quantised else [])],
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "learned": None if saved.learned is None else dict(saved.learned),
            "seen": None if saved.seen is None else list(saved.seen),
        },
        vidkd=__version__,
    )


@dataclass(frozen=True, kw_only=True)
class Integers:
    """That and how a file computes in eight-bit integers. calibration: training clips on which ranges are found.

    kept: graphs that were given integers so, which a file of another format need not find again.
    """

    config: QuantiseConfig
    calibration: Calibration
    kept: dict[str, Quantised] = field(default_factory=dict)


def export_classifier(
    saved: SavedClassifier,
    data: DataConfig,
    path: Path,
    *,
    clips: Clips | None = None,
    tolerance: float = TOLERANCE,
    integers: Integers | None = None,
    more: str = MORE,
    named: Path | str | None = None,
) -> Exported[ClassifierMetadata, Parity]:
    """Write a classifier to `path` in the format of its suffix, one of `FORMATS`; what was there is replaced only once the check is passed.

    data: the settings of its training. clips: what network and file are compared on, by default noise. tolerance, more: see `compare`.
    integers: how it computes in eight-bit integers, by default in float; its differences are told, whatever they are, and warned of where
    it mostly differs. named: where the network was read from, for messages.
    Raises ConfigError for another suffix, a network that does not compute with finite numbers, that cannot be exported (naming the module)
    or that the library of the format refuses, a place that cannot be written, a difference beyond the tolerance, or a runtime that computes
    in float what is in integers in the file; MissingExtraError without the packages of the format.
    """
    write = FORMATS.get(path.suffix.lower())
    if write is None:
        raise ConfigError(f"not a format of export: {path}", known=", ".join(FORMATS))
    if integers is not None and path.suffix.lower() == ".pt2":
        raise ConfigError(f"not a format of integers: {path}", known=".onnx, .xml", hint="export .pt2 in float")
    saved.model.cpu()
    check_weights(saved.model, named)
    graph = Graph(saved, data, integers)
    given = clips or generated_clips(graph.metadata)
    wanted = said_of(graph.outputs, given)
    check_outputs(wanted.values(), given.source, named)
    allowed = tolerance if integers is None else math.inf

    def write_and_compare(new: Path) -> Parity:
        return compare(wanted, write(graph, new), given, tolerance=allowed, what=path.name, more=more)

    return Exported(
        path=path,
        metadata=graph.metadata,
        parity=write_checked(path, write_and_compare, lambda: graph.quantised),
        parameters=sum(parameter.numel() for parameter in saved.model.parameters()),
        open_batch=has_open_batch(graph.program),
        quantised=graph.quantised,
    )


class Graph:
    """A classifier as the graph that its files hold, with what they say of themselves. quantised: set once it was given integers."""

    def __init__(self, saved: SavedClassifier, data: DataConfig, integers: Integers | None = None) -> None:
        self.metadata = classifier_metadata(saved, data, quantised=integers is not None)
        self.outputs = ExportedOutputs(saved.model)
        self.program = traced(self.outputs, self.metadata)
        self.quantised: Quantised | None = None
        self._integers = integers

    def onnx(self) -> bytes:
        """The ONNX model with its metadata, in integers where it is to be."""
        model = onnx_program(self.program, self.outputs, self.metadata)
        _forget_where_it_was_made(model)
        model.metadata_props[EMBEDDED_KEY] = self.metadata.to_json()
        content = bytes(require("onnx_ir", "export").to_proto(model).SerializeToString())
        if self._integers is None:
            return content
        given = self._integers
        self.quantised = quantise_once(content, given.calibration.feeds, given.config, given.kept)
        return self.quantised.graph


def float_bytes(saved: SavedClassifier, data: DataConfig, suffix: str, named: Path | str | None = None) -> int:
    """Size of the file that a classifier becomes in float: what others of this suffix are compared with. Raises as `export_classifier`."""
    with tempfile.TemporaryDirectory() as folder:
        return export_classifier(saved, data, Path(folder) / f"model{suffix}", tolerance=math.inf, named=named).bytes


def _write_onnx(graph: Graph, path: Path) -> Raw:
    path.write_bytes(graph.onnx())
    return open_exported_classifier(path, device="cpu").raw


def _write_openvino(graph: Graph, path: Path) -> Raw:
    write_openvino(graph.onnx(), graph.metadata.to_json(), path)
    return open_exported_classifier(path, device="cpu").raw


def _forget_where_it_was_made(model: Any) -> None:
    """The exporter notes at every node the lines of code and the paths of this machine that it comes from."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()


def _write_pt2(graph: Graph, path: Path) -> Raw:
    program, outputs, metadata = graph.program, graph.outputs, graph.metadata
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = io.BytesIO()  # not to the file at once: torch hides its errors
        torch.export.save(program, whole, extra_files={f"{EMBEDDED_KEY}.json": metadata.to_json()})
        path.write_bytes(whole.getvalue())
        # what was written a moment ago is trusted; a file from elsewhere is never read in this way
        network = torch.export.load(path).module()

    at_once = None if has_open_batch(program) else 1

    def raw(clips: Any, shares: Any) -> dict[str, Any]:
        piece = at_once or len(clips)
        found = []
        for start in range(0, len(clips), piece):
            part = slice(start, start + piece)
            inputs = [torch.from_numpy(clips[part]), torch.from_numpy(shares[part])][: 2 if metadata.observed else 1]
            with torch.inference_mode():
                found.append([each.numpy() for each in network(*inputs)])
        return dict(zip(outputs.names, map(np.concatenate, zip(*found, strict=True)), strict=True))

    return raw


FORMATS: dict[str, Callable[[Graph, Path], Raw]] = {
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
    ".pt2": _write_pt2,
}
"""What writes each format and gives back the file as it is run."""
