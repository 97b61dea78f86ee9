"""Which layers of an ONNX graph have weights, and which of them compute in integers: in the file, and as a runtime runs it."""

import collections
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from vidkd.base.errors import require
from vidkd.runtime.onnx_network import NOT_AS_WRITTEN, session_options
from vidkd.runtime.openvino_network import PRECISION, compiled, wrap_openvino_errors

# Operations that multiply by weights, as a user knows them.
KIND_WORDS = {"Conv": "convolution", "ConvTranspose": "transposed convolution", "Gemm": "linear layer", "MatMul": "linear layer"}
WEIGHTED = tuple(KIND_WORDS)
# Operations of ONNX Runtime after its optimisation: convolutions in integers and in float, linear layers in integers.
RUN_AS = {"QLinearConv": "integer", "Conv": "float", "FusedConv": "float"}
RUN_AS |= dict.fromkeys(("QGemm", "QLinearMatMul", "MatMulIntegerToFloat"), "linear")


def weighted_layers(model: Any) -> dict[str, str]:
    """The nodes of a float graph that multiply by weights of the file, in its order, by the path of the module in the network."""
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in weights]
    return {_module(node.input[1], node.name): node.name for node in nodes}


def integer_layers(model: Any) -> dict[str, str]:
    """Layers of a file that compute in integers, by path, with their operation: all that they multiply comes out of eight-bit tensors."""
    eight_bit = {tensor.name for tensor in model.graph.initializer if tensor.data_type in (2, 3)}  # UINT8, INT8 of onnx.proto
    dequantised = {output: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    found = {}
    for node in model.graph.node:
        weight = dequantised.get(node.input[1]) if node.op_type in WEIGHTED and node.input[0] in dequantised else None
        if weight is not None and weight in eight_bit:
            # the name that it had before the quantiser gave it an ending
            found[_module(weight.removesuffix("_quantized").removesuffix("_merged_0_transposed"), node.name)] = node.op_type
    return found


def counted(kinds: Iterable[str]) -> str:
    """`7 layers in eight-bit integers: 6 convolutions and 1 linear layer`. kinds: an operation of ONNX for each."""
    words = [KIND_WORDS.get(kind, kind) for kind in kinds]
    counts = collections.Counter({"convolution": 0, "linear layer": 0}) + collections.Counter(words)
    parts = " and ".join(f"{count} {word}{'s' * (count != 1)}" for word, count in counts.items())
    return f"{len(words)} layer{'s' * (len(words) != 1)} in eight-bit integers" + (f": {parts}" if parts else "")


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
    kinds = collections.Counter(_openvino_kinds(path) if path.suffix.lower() == ".xml" else _onnx_kinds(path))
    return RunInIntegers(kinds["integer"], kinds["integer"] + kinds["float"], kinds["linear"])


def _onnx_kinds(path: Path) -> list[str]:
    runtime, onnx, options = require("onnxruntime", "compress"), require("onnx", "compress"), session_options("compress")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=NOT_AS_WRITTEN)
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    run = [(RUN_AS[node.op_type], not weights.isdisjoint(node.input)) for node in graph.node if node.op_type in RUN_AS]
    return [kind for kind, has_weights in run if has_weights or kind != "linear"]


def _openvino_kinds(path: Path) -> list[str]:
    core = require("openvino", "openvino").Core()
    with wrap_openvino_errors(path):
        network = compiled(core, core.read_model(str(path)), PRECISION)
    found = []
    for operation in network.get_runtime_model().get_ops():
        info = operation.get_rt_info()
        kind, integer = str(info["layerType"].astype(str)), info["runtimePrecision"].astype(str) in ("u8", "i8")
        if kind == "Convolution":
            found.append("integer" if integer else "float")
        elif kind == "FullyConnected" and integer:  # which has weights; what multiplies two activations is called MatMul
            found.append("linear")
    return found


def _module(weight: str, node: str) -> str:
    """backbone.net.stem.0 for classifier.backbone.net.stem.0.weight; the node's name where the graph does not say the module."""
    path, _, last = weight.removeprefix("classifier.").rpartition(".")
    return path if last.startswith("weight") and path else node
