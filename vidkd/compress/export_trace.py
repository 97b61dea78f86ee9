"""A classifier as the one graph that every exported file holds: raw clips in, logits and attention map out, any batch size."""

import contextlib
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vidkd.base.errors import ConfigError, first_line
from vidkd.base.extras import require
from vidkd.models import VideoClassifier
from vidkd.runtime.metadata import ATTENTION, CLIP, LOGITS, OBSERVED, ClassifierMetadata, target_output

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
