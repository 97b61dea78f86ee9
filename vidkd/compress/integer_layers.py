"""Which layers of an ONNX graph have weights, and which of them compute in integers: in the file, and as a runtime runs it."""

import collections
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vidkd.base.extras import require
from vidkd.runtime.onnx_network import NOT_AS_WRITTEN, session_options
from vidkd.runtime.openvino_network import PRECISION, compiled, wrap_openvino_errors

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
ROOT = "classifier."
RUN_AS = {
    "QLinearConv": "integer",
    **dict.fromkeys(("Conv", "FusedConv"), "float"),
    **dict.fromkeys(("QGemm", "QLinearMatMul", "MatMulIntegerToFloat"), "linear"),
}
"""Operations of ONNX Runtime after its optimisation: convolutions in integers and in float, linear layers in integers."""

KIND_WORDS = {"Conv": "convolution", "ConvTranspose": "transposed convolution", "Gemm": "linear layer", "MatMul": "linear layer"}
"""Operations of ONNX as a user knows them."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """name: path of the module in the network (of its node where the graph does not tell). node: of the graph. kind: its operation."""

    name: str
    node: str
    kind: str


def weighted_layers(model: Any) -> list[Layer]:
    """The nodes of a float graph that multiply by weights of the file, in its order."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        Layer(name=_module(node.input[1], node.name), node=node.name, kind=node.op_type)
        for node in model.graph.node
        if node.op_type in WEIGHTED and node.input[1] in weights
    ]


def integer_layers(model: Any) -> dict[str, str]:
    """Layers of a file that compute in integers, by path, with their operation: all that they multiply comes out of eight-bit tensors."""
    eight_bit = {tensor.name for tensor in model.graph.initializer if tensor.data_type in (2, 3)}  # UINT8, INT8 of onnx.proto
    made_by = {output: node for node in model.graph.node for output in node.output}

    def dequantised(name: str) -> Any:
        node = made_by.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    found = {}
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            data, weight = dequantised(node.input[0]), dequantised(node.input[1])
            if data is not None and weight is not None and weight.input[0] in eight_bit:
                found[_module(_stem(weight.input[0]), node.name)] = node.op_type
    return found


def counted(kinds: Iterable[str]) -> str:
    """`7 layers in eight-bit integers: 6 convolutions and 1 linear layer`. kinds: an operation of ONNX for each."""
    words = [KIND_WORDS.get(kind, kind) for kind in kinds]
    counts = collections.Counter({"convolution": 0, "linear layer": 0})
    counts.update(words)
    parts = [f"{count} {word}{'s' * (count != 1)}" for word, count in counts.items() if count]
    every = f"{len(words)} layer{'s' * (len(words) != 1)} in eight-bit integers"
    if len(parts) > 1:
        parts = [f"{', '.join(parts[:-1])} and {parts[-1]}"]
    return ": ".join([every, *parts])


class RunInIntegers(NamedTuple):
    """convolutions: how many a runtime computes in integers, all_convolutions: of how many. linear: the same of linear layers."""

    convolutions: int
    all_convolutions: int
    linear: int


def run_in_integers(path: Path) -> RunInIntegers:
    """What a runtime computes in integers after its own optimisation, on this processor.

    path: .onnx for ONNX Runtime, .xml for OpenVINO. Raises CheckpointError for what OpenVINO does not compile, MissingExtraError without
    the library.
    """
    kinds = _openvino_kinds(path) if path.suffix.lower() == ".xml" else _onnx_kinds(path)
    return RunInIntegers(kinds["integer"], kinds["integer"] + kinds["float"], kinds["linear"])


def _onnx_kinds(path: Path) -> collections.Counter[str]:
    runtime, onnx = require("onnxruntime", "compress"), require("onnx", "compress")
    options = session_options("compress")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=NOT_AS_WRITTEN)
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    run = [(RUN_AS[node.op_type], not weights.isdisjoint(node.input)) for node in graph.node if node.op_type in RUN_AS]
    return collections.Counter(kind for kind, has_weights in run if has_weights or kind != "linear")


def _openvino_kinds(path: Path) -> collections.Counter[str]:
    core = require("openvino", "openvino").Core()
    with wrap_openvino_errors(path):
        network = compiled(core, core.read_model(str(path)), PRECISION)
    found: collections.Counter[str] = collections.Counter()
    for operation in network.get_runtime_model().get_ops():
        info = operation.get_rt_info()
        kind, integer = str(info["layerType"].astype(str)), info["runtimePrecision"].astype(str) in ("u8", "i8")
        if kind == "Convolution":
            found["integer" if integer else "float"] += 1
        if kind == "FullyConnected" and integer:  # which has weights; what multiplies two activations is called MatMul
            found["linear"] += 1
    return found


def _module(weight: str, node: str) -> str:
    """backbone.net.stem.0 for classifier.backbone.net.stem.0.weight."""
    path, _, last = weight.removeprefix(ROOT).rpartition(".")
    return path if last.startswith("weight") and path else node


def _stem(name: str) -> str:
    """The name that a weight had before the quantiser gave it its own ending."""
    return name.removesuffix("_quantized").removesuffix("_merged_0_transposed")
