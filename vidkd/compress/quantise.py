"""Layers of an exported graph in eight-bit integers, by ONNX Runtime's quantiser: convolutions of two and of three dimensions alike.

The graph keeps its inputs and outputs; between them are pairs of quantising and dequantising (QDQ), from which ONNX Runtime and OpenVINO
make integer kernels. Weights are symmetric with a scale for each filter, activations unsigned with one scale (Jacob et al. 2018, arXiv
1712.05877). What of them a runtime computes in integers after its own optimisation is counted.
"""

import collections
import contextlib
import hashlib
import io
import logging
import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
from numpy.typing import NDArray

from vidkd.base.cores import processor_flags, saturates
from vidkd.base.errors import ConfigError, require
from vidkd.base.files import writing
from vidkd.compress.graph import matched
from vidkd.compress.recipe import QuantiseConfig
from vidkd.runtime.networks import NOT_AS_WRITTEN, PRECISION, compiled, session_options, wrap_openvino_errors

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


log = logging.getLogger(__name__)
# Inputs of a graph by name, of one sample: one at a time needs the least memory.
Feed = Mapping[str, NDArray[Any]]
# Operations that stay in float: their sums lose too much, and no runtime gains by them.
FLOAT_BY_RULE = "Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization"
# How many times the activations of a sample ONNX Runtime holds while ranges are found; 2.0 measured with mc3_18, 2.4 with mvit_v2_s.
HELD = 2.5


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A graph with integer layers.

    graph: the ONNX model. layers: kind of operation of the layers that compute in integers, by their path in the network. left: layers that
    stayed in float, and why.
    """

    graph: bytes
    layers: Mapping[str, str]
    left: Mapping[str, str]

    @property
    def convolutions(self) -> int:
        """How many convolutions compute in integers."""
        return sum(kind == "Conv" for kind in self.layers.values())

    def __str__(self) -> str:
        return f"{counted(self.layers.values())}; in float: {', '.join(self.left) or 'none'}"


@dataclass(frozen=True, kw_only=True)
class Integers:
    """How files compute in eight-bit integers. feeds: samples on which ranges are found; source: in words what they are."""

    config: QuantiseConfig
    feeds: Sequence[Feed]
    source: str
    _kept: dict[str, Quantised] = field(default_factory=dict)

    def quantised(self, graph: bytes) -> Quantised:
        """`quantise`, once for a graph that files of several formats hold."""
        key = hashlib.sha256(graph).hexdigest()
        if key not in self._kept:
            self._kept[key] = quantise(graph, self.feeds, self.config)
        return self._kept[key]


def quantise(graph: bytes, feeds: Sequence[Feed], config: QuantiseConfig) -> Quantised:
    """Give a graph integer layers. feeds: samples of training data, on which ranges are found.

    Every layer with weights that is not excluded must compute in integers afterwards: a quantiser that skips some is an error.
    Raises ConfigError for that, for a graph without such layers, without feeds, or for too little memory; WriteError for a full disk;
    MissingExtraError without onnxruntime.
    """
    if not feeds:
        raise ConfigError("nothing to find the ranges of activations on", hint="footage or clips that the network is not judged on")
    model = require("onnx", "compress").load_model_from_string(graph)
    found = weighted_layers(model)
    left = dict.fromkeys(matched(config.exclude, found), "exclude")
    wanted = {name: node for name, node in found.items() if name not in left}
    if not wanted:
        raise ConfigError("no layer of this network may compute in integers", **dict(list(left.items())[:4]))
    needed, available = round(activation_bytes(model) * HELD), psutil.virtual_memory().available
    if needed > available:
        raise ConfigError(
            "the activations of one sample do not fit into memory, where ranges of integers are found",
            needed=f"about {needed / 2**30:.1f} GiB",
            available=f"{available / 2**30:.1f} GiB",
            hint="fewer or smaller frames (data.window.frames, data.transform.crop), a machine with more memory, or a file in float",
        )
    with tempfile.TemporaryDirectory() as folder, writing(f"{folder}/float.onnx"):
        made = _with_integers(graph, model, feeds, config, set(wanted.values()), Path(folder))
    layers = integer_layers(made)
    if skipped := [name for name in wanted if name not in layers]:
        raise ConfigError("the quantiser left layers in float that it was to change", layers=", ".join(skipped[:6]), hint="exclude them")
    return Quantised(graph=bytes(made.SerializeToString()), layers=layers, left=left)


def activation_bytes(model: Any) -> int:
    """Bytes of the outputs of all nodes of a float graph for one sample, by the shapes that ONNX infers; unknown shapes count nothing."""
    onnx = require("onnx", "compress")
    single = type(model).FromString(model.SerializeToString())
    del single.graph.value_info[:]  # of any batch; here those of one sample are inferred
    for given in single.graph.input:
        given.type.tensor_type.shape.dim[0].dim_value = 1
    for output in single.graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    made = {name for node in graph.node for name in node.output}
    tensors = [value.type.tensor_type for value in (*graph.value_info, *graph.output) if value.name in made]
    known = [tensor for tensor in tensors if tensor.elem_type and tensor.HasField("shape")]
    sizes = [(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize, tensor.shape.dim) for tensor in known]
    return sum(size * math.prod(side.dim_value for side in sides) for size, sides in sizes)


def _with_integers(graph: bytes, model: Any, feeds: Sequence[Feed], config: QuantiseConfig, nodes: Collection[str], folder: Path) -> Any:
    """The model with these layers in integers, and what else has integers. folder: for files meanwhile."""
    tools, source, target = require("onnxruntime.quantization", "compress"), folder / "float.onnx", folder / "integer.onnx"
    source.write_bytes(graph)
    with _quietly():
        tools.quantize_static(
            source,
            target,
            SimpleNamespace(get_next=partial(next, iter(map(dict, feeds)), None)),
            per_channel=True,
            nodes_to_exclude=[node for node in weighted_layers(model).values() if node not in nodes] + float_by_rule(model),
            reduce_range=config.weight_bits == 7,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
        )
    made = require("onnx", "compress").load(target)
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    del made.metadata_props[:]
    made.metadata_props.extend(model.metadata_props)
    return made


def float_by_rule(model: Any) -> list[str]:
    """Nodes that stay in float: those of FLOAT_BY_RULE, products of two activations, and what lies between such a product and a softmax.

    So do those that compute from weights alone (the exporter reorders those of a GRU in the graph, and OpenVINO wants them constant).
    What lies between a product and a softmax, in integers, would put both between integers, and a runtime then computes these in integers.
    """
    made_by = {output: node for node in model.graph.node for output in node.output}
    weighted = set(weighted_layers(model).values())
    products = {node.name for node in model.graph.node if node.op_type in ("Gemm", "MatMul") and node.name not in weighted}
    behind_product: dict[str, bool] = {}

    def walk(node: Any) -> bool:
        """Whether a product feeds a node through nothing but operations without weights; finds that of all nodes on the way."""
        if node.name not in behind_product:
            sources = [made_by[name] for name in node.input if name in made_by]
            found = [source.name in products or (source.op_type not in WEIGHTED and walk(source)) for source in sources]
            behind_product[node.name] = any(found)
        return behind_product[node.name]

    ruled = [node for node in model.graph.node if node.op_type in FLOAT_BY_RULE]
    for node in ruled:
        if node.op_type in ("Softmax", "LogSoftmax"):
            walk(node)
    constant, of_weights = {"", *(tensor.name for tensor in model.graph.initializer)}, []
    for node in model.graph.node:  # in order of computation
        if constant.issuperset(node.input):
            constant.update(node.output)
            of_weights.append(node.name)
    return list(
        dict.fromkeys([*(node.name for node in ruled), *of_weights, *products, *(name for name, found in behind_product.items() if found)])
    )


def warn_if_saturating(config: QuantiseConfig, hint: str, flags: Collection[str] | None = None) -> None:
    """Log that weights of eight bits may overflow on this processor, where they may. flags: of the processor, by default of this one."""
    if config.weight_bits == 8 and saturates(processor_flags() if flags is None else flags):
        log.warning("this processor has no VNNI: its eight-bit products may saturate (%s for files that run here)", hint)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """ONNX Runtime's quantiser prints, and warns by the root logger that it wants the graph simplified first, which the exporter did."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(before)
