"""Layers of an exported graph in eight-bit integers, by ONNX Runtime's quantiser: convolutions of two and of three dimensions alike.

The graph keeps its inputs and outputs; between them are pairs of quantising and dequantising (QDQ), from which ONNX Runtime and OpenVINO
make integer kernels. Weights are symmetric with a scale for each filter, activations unsigned with one scale (Jacob et al. 2018, arXiv
1712.05877).
"""

import contextlib
import hashlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.base.extras import require
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.graph import matched
from vidkd.compress.integer_layers import WEIGHTED, Layer, counted, integer_layers, weighted_layers
from vidkd.runtime.onnx_network import NOT_AS_WRITTEN, session_options

Feed = Mapping[str, NDArray[Any]]
"""Inputs of a graph by name, of one sample: one at a time needs the least memory."""
FLOAT_BY_RULE = "Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization"
"""Operations that stay in float: their sums lose too much, and no runtime gains by them."""
JOINED = "Relu", "Clip"
"""Activations that the quantiser joins with the layer before them: both have one range."""
HELD = 2.5
"""How many times the activations of a sample ONNX Runtime holds while ranges are found; 2.0 measured with mc3_18, 2.4 with mvit_v2_s."""


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A graph with integer layers.

    graph: the ONNX model. layers: kind of operation of the layers that compute in integers, by their path in the network. left: layers that
    stayed in float, and why. sensitivity: signal to noise in dB of the output that suffers most with that layer alone in integers, the
    least first; empty where it was not requested.
    """

    graph: bytes
    layers: Mapping[str, str]
    left: Mapping[str, str]
    sensitivity: Mapping[str, float]

    @property
    def convolutions(self) -> int:
        """How many convolutions compute in integers."""
        return sum(kind == "Conv" for kind in self.layers.values())

    def __str__(self) -> str:
        return f"{counted(self.layers.values())}; in float: {', '.join(self.left) or 'none'}"


def quantise(graph: bytes, feeds: Sequence[Feed], config: QuantiseConfig) -> Quantised:
    """Give a graph integer layers. feeds: samples of training data, on which ranges and sensitivity are found.

    Every layer with weights that is not excluded must compute in integers afterwards: a quantiser that skips some is an error.
    Raises ConfigError for that, for a graph without such layers, without feeds, for a full disk or too little memory; MissingExtraError
    without onnxruntime.
    """
    if not feeds:
        raise ConfigError("nothing to find the ranges of activations on", hint="give training clips")
    model = require("onnx", "compress").load_model_from_string(graph)
    wanted = {layer.name: layer for layer in weighted_layers(model)}
    left = dict.fromkeys(matched(config.exclude, wanted), "exclude")
    wanted = {name: layer for name, layer in wanted.items() if name not in left}
    if not wanted:
        raise ConfigError("no layer of this network may compute in integers", **dict(list(left.items())[:4]))
    _check_memory(model)
    try:
        with tempfile.TemporaryDirectory() as folder:
            quantiser = _Quantiser(graph, model, feeds, config, Path(folder))
            noise = quantiser.sensitivity(list(wanted.values())) if config.sensitivity else {}
            made = quantiser.with_integers(list(wanted.values()))
    except OSError as error:  # a full disk
        mend = f"free disk space in {tempfile.gettempdir()}, or name another folder by the variable TMPDIR"
        raise ConfigError("cannot write the quantiser's temporary files", reason=error.strerror or error, hint=mend) from error
    layers = integer_layers(made)
    skipped = [name for name in wanted if name not in layers]
    if skipped:
        raise ConfigError("the quantiser left layers in float that it was to change", layers=", ".join(skipped[:6]), hint="exclude them")
    return Quantised(graph=bytes(made.SerializeToString()), layers=layers, left=left, sensitivity=noise)


def quantise_once(graph: bytes, feeds: Sequence[Feed], config: QuantiseConfig, kept: MutableMapping[str, Quantised]) -> Quantised:
    """`quantise`, or what is kept of the same graph: files of several formats hold one. kept: of these feeds and this configuration."""
    key = hashlib.sha256(graph).hexdigest()
    if key not in kept:
        kept[key] = quantise(graph, feeds, config)
    return kept[key]


def _check_memory(model: Any) -> None:
    """Raise ConfigError where the activations of one sample would not fit into memory, by an estimate."""
    needed, available = round(activation_bytes(model) * HELD), psutil.virtual_memory().available
    if needed > available:
        raise ConfigError(
            "the activations of one sample do not fit into memory, where ranges of integers are found",
            needed=f"about {needed / 2**30:.1f} GiB",
            available=f"{available / 2**30:.1f} GiB",
            hint="fewer or smaller frames (data.window.frames, data.transform.crop), a machine with more memory, or a file in float",
        )


def activation_bytes(model: Any) -> int:
    """Bytes of the outputs of all nodes of a float graph for one sample, by the shapes that ONNX infers; unknown shapes count nothing."""
    onnx = require("onnx", "compress")
    single = type(model)()
    single.CopyFrom(model)
    del single.graph.value_info[:]  # of any batch; here those of one sample are inferred
    for given in single.graph.input:
        for side in given.type.tensor_type.shape.dim[:1]:
            side.dim_value = 1
    for output in single.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    outputs = {name for node in inferred.node for name in node.output}
    total = 0
    for value in (*inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        if value.name in outputs and tensor.elem_type and tensor.HasField("shape"):
            size = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
            total += size * int(np.prod([side.dim_value for side in tensor.shape.dim], dtype=np.int64))
    return total


def float_by_rule(model: Any) -> list[str]:
    """Nodes that stay in float: those of FLOAT_BY_RULE, products of two activations, and what lies between such a product and a softmax.

    The latter, in integers, would put product and softmax between integers too, and a runtime then computes these in integers as well.
    """
    made_by = {output: node for node in model.graph.node for output in node.output}
    weighted = {layer.node for layer in weighted_layers(model)}
    products = {node.name for node in model.graph.node if node.op_type in ("Gemm", "MatMul") and node.name not in weighted}
    behind_product: dict[str, bool] = {}

    def walk(node: Any) -> bool:
        """Whether a product feeds a node through nothing but operations without weights; tells that of all nodes on the way."""
        if node.name not in behind_product:
            sources = [made_by[name] for name in node.input if name in made_by]
            found = [source.name in products or (source.op_type not in WEIGHTED and walk(source)) for source in sources]
            behind_product[node.name] = any(found)
        return behind_product[node.name]

    ruled = [node for node in model.graph.node if node.op_type in FLOAT_BY_RULE]
    for node in ruled:
        if node.op_type in ("Softmax", "LogSoftmax"):
            walk(node)
    between = [name for name, found in behind_product.items() if found]
    return list(dict.fromkeys([*(node.name for node in ruled), *products, *between]))


class _Samples:
    """Feeds as ONNX Runtime's calibration asks for them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next feed; None after the last."""
        feed = next(self._left, None)
        return None if feed is None else dict(feed)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return map(dict, self._left)

    def __next__(self) -> dict[str, NDArray[Any]]:
        return dict(next(self._left))


class _Quantiser:
    """ONNX Runtime's quantiser on one graph; the ranges of activations are found once and kept in `folder`."""

    def __init__(self, graph: bytes, model: Any, feeds: Sequence[Feed], config: QuantiseConfig, folder: Path) -> None:
        self.graph, self.model, self.feeds, self.config, self._ranges = graph, model, feeds, config, folder / "ranges.json"

    def with_integers(self, layers: Sequence[Layer], *, alone: bool = False) -> Any:
        """The model with these layers in integers, and what else has integers; alone: with nothing else, but for their activations."""
        tools = require("onnxruntime.quantization", "compress")
        chosen = {layer.node for layer in layers}
        excluded = [layer.node for layer in weighted_layers(self.model) if layer.node not in chosen]
        excluded += float_by_rule(self.model)
        if alone:
            outputs = {output for node in self.model.graph.node if node.name in chosen for output in node.output}
            kept = {node.name for node in self.model.graph.node if node.op_type in JOINED and node.input[0] in outputs}
            excluded += [node.name for node in self.model.graph.node if node.name not in chosen | kept]
        with tempfile.TemporaryDirectory() as folder, _quietly():
            source, target = Path(folder) / "float.onnx", Path(folder) / "integer.onnx"
            source.write_bytes(self.graph)
            tools.quantize_static(
                source,
                target,
                None if self._ranges.exists() else _Samples(self.feeds),
                per_channel=True,
                nodes_to_exclude=excluded,
                reduce_range=self.config.weight_bits == 7,
                activation_type=tools.QuantType.QUInt8,
                weight_type=tools.QuantType.QInt8,
                calibration_cache_path=self._ranges,
            )
            made = require("onnx", "compress").load(target)
        made.producer_name, made.producer_version = self.model.producer_name, self.model.producer_version
        del made.metadata_props[:]
        made.metadata_props.extend(self.model.metadata_props)
        return made

    def sensitivity(self, layers: Sequence[Layer]) -> dict[str, float]:
        """Signal to noise in dB over all feeds, of the output that suffers most, with each layer alone in integers; the least first.

        Outputs are not thrown together: log-probabilities of a map are many and large, and would hide what happens to the logits.
        """
        wanted, found = self._outputs(self.graph), {}
        for layer in layers:
            made = self._outputs(self.with_integers([layer], alone=True).SerializeToString())
            found[layer.name] = min(signal_to_noise_db(one, got) for one, got in zip(wanted, made, strict=True))
        return dict(sorted(found.items(), key=lambda entry: entry[1]))

    def _outputs(self, graph: bytes) -> list[list[NDArray[Any]]]:
        """Of each output its values, feed by feed."""
        runtime = require("onnxruntime", "compress")
        options = session_options("compress")
        session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=NOT_AS_WRITTEN)
        return [list(values) for values in zip(*(session.run(None, dict(feed)) for feed in self.feeds), strict=True)]


def signal_to_noise_db(wanted: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    """10 log10 of the squares of all wanted values over those of the differences; infinite where there are none."""
    signal = sum(float(np.square(each, dtype=np.float64).sum()) for each in wanted)
    noise = sum(float(np.square(got.astype(np.float64) - want).sum()) for got, want in zip(found, wanted, strict=True))
    return float("inf") if noise == 0 else float(10 * np.log10(signal / noise)) if signal else -float("inf")


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
