"""A darknet network in ONNX: its graph, and its forward pass in ONNX Runtime, faster than eager torch on a CPU.

Batch normalisation is folded into the convolution before it, so the weights of the graph are not those of the network but follow from them.
ONNX Runtime lays weights out for the CPU when a model is loaded, and much of its speed comes from that; it does so only for weights
that cannot change. So the graph is written once, from the cfg, and new weights mean a new session over it, swapped in as a whole.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.base.errors import ConfigError
from vidkd.base.extras import require
from vidkd.models.darknet.blocks import Activation, Convolutional, DarknetConfig, Dropout, Maxpool, Route, Shortcut, Upsample, Yolo
from vidkd.models.darknet.graph import IMAGE, heads_of, trace
from vidkd.models.darknet.net import LEAKY_SLOPE, ConvolutionBlock, Darknet
from vidkd.runtime.onnx_network import session_options

INPUT, POOLED = "images", "pooled"
OPSET, IR_VERSION = 13, 8
SIMPLE_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "leaky": ("LeakyRelu", {"alpha": LEAKY_SLOPE}),
    "relu": ("Relu", {}),
    "logistic": ("Sigmoid", {}),
}

Weights = dict[str, NDArray[np.float32]]

_changes = operator.attrgetter("_version")  # torch counts the changes of each tensor


def head_name(place: int) -> str:
    """The output that holds the raw head of this place among `net.heads`."""
    return f"head_{place}"


@torch.no_grad()
def graph_weights(net: Darknet) -> Weights:
    """The weights of the graph at this moment, by name: kernel and bias of each convolution, in arrays of their own."""
    weights: Weights = {}
    for index, layer in enumerate(net.layers):
        if isinstance(layer, ConvolutionBlock):
            kernel, bias = (value.cpu().numpy() for value in layer.folded(torch.float64))
            # contiguous: the runtime reads it from where it is in memory
            weights |= {_kernel(index): np.ascontiguousarray(kernel, np.float32), _bias(index): bias.astype(np.float32)}
    return weights


@functools.lru_cache(maxsize=4)
def graph_model(config: DarknetConfig) -> bytes:
    """The graph of a cfg as an ONNX model whose weights (`graph_weights`) are named, not held: they are given when it is loaded.

    Input "images", RGB float (B, 3, h, w) in [0, 1]. Outputs: "head_0", "head_1", ..., raw as those of the network, and "pooled" (B, D),
    the means over positions of the network's `deep_layers`, one behind the other.
    Raises MissingExtraError without the package onnx.
    """
    onnx = require("onnx", "detect")
    writer = _Writer(onnx.helper, config)
    weights = [_named_only(onnx, name, shape) for name, shape in writer.weights.items()]
    return bytes(_model(onnx, writer, [*writer.heads(), writer.pooled()], weights).SerializeToString())


def whole_model(net: Darknet) -> Any:
    """The same graph without "pooled", with the network's current weights in it: a complete ONNX model.

    Raises MissingExtraError without the package onnx.
    """
    onnx = require("onnx", "detect")
    writer = _Writer(onnx.helper, net.config)
    return _model(onnx, writer, writer.heads(), [onnx.numpy_helper.from_array(value, name) for name, value in graph_weights(net).items()])


def _model(onnx: Any, writer: "_Writer", outputs: Sequence[str], weights: Sequence[Any]) -> Any:
    value, floats, net = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT, writer.config.net
    graph = onnx.helper.make_graph(
        writer.nodes,
        "darknet",
        [value(INPUT, floats, ["batch", net.channels, net.height, net.width])],
        [value(name, floats, ["batch", "features"] if name == POOLED else ["batch", None, None, None]) for name in outputs],
        [*writer.constants, *weights],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _named_only(onnx: Any, name: str, shape: Sequence[int]) -> Any:
    """A tensor whose numbers are outside the model; the loader says where."""
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=shape, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights")
    return tensor


def _kernel(index: int) -> str:
    return f"layers.{index}.weight"


def _bias(index: int) -> str:
    return f"layers.{index}.bias"


class _Writer:
    """The nodes of the graph, layer after layer. outputs: the name of what each layer puts out. weights: shapes, by name."""

    def __init__(self, helper: Any, config: DarknetConfig) -> None:
        self._helper, self.config, self._traced = helper, config, trace(config)
        self._heads = heads_of(config, self._traced)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.outputs = {IMAGE: INPUT}
        self.weights: dict[str, tuple[int, ...]] = {}
        for index in range(len(self._traced)):
            self.add(index)

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add one; returns the name of its output."""
        self.nodes.append(self._helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def add(self, index: int) -> None:
        """Add a layer; those that it reads must be there."""
        layer, sources, output = self.config.layers[index], self._traced[index].sources, f"layer_{index}"
        names = [self.outputs[source] for source in sources]
        match layer:
            case Convolutional():
                output = self._convolution(index, layer, names[0], output)
            case Maxpool():
                self._maxpool(layer, names[0], output)
            case Upsample():
                self._upsample(layer, names[0], output)
            case Route():
                output = self._route(layer, sources, names, output)
            case Shortcut():
                output = self._activated(layer.activation, self.node("Add", names, f"{output}_sum"), output)
            case Dropout() | Yolo():
                output = names[0]
        self.outputs[index] = output

    def heads(self) -> list[str]:
        """Add the raw heads as outputs; returns their names."""
        return [self.node("Identity", [self.outputs[head.layer]], head_name(place)) for place, head in enumerate(self._heads)]

    def pooled(self) -> str:
        """Add the means of the layers that the heads read, added ones aside, as the output "pooled"; returns its name."""
        sources = [head.features for head in self._heads]
        means = [self.node("GlobalAveragePool", [self.outputs[layer]], f"mean_{place}") for place, layer in enumerate(sources)]
        return self.node("Flatten", [self.node("Concat", means, "means", axis=1)], POOLED)

    def _convolution(self, index: int, layer: Convolutional, source: str, output: str) -> str:
        reach = layer.padding * layer.dilation
        channels = self._channels(self._traced[index].sources[0]) // layer.groups
        self.weights |= {_kernel(index): (layer.filters, channels, layer.size, layer.size), _bias(index): (layer.filters,)}
        convolved = self.node(
            "Conv",
            [source, _kernel(index), _bias(index)],
            f"{output}_convolved",
            kernel_shape=[layer.size] * 2,
            strides=[layer.stride] * 2,
            pads=[reach] * 4,
            dilations=[layer.dilation] * 2,
            group=layer.groups,
        )
        return self._activated(layer.activation, convolved, output)

    def _activated(self, activation: Activation, source: str, output: str) -> str:
        if activation == "linear":
            return source
        if activation == "relu6":
            bounds = [self._constant(f"{output}_{word}", [], [value], floats=True) for word, value in (("least", 0.0), ("most", 6.0))]
            return self.node("Clip", [source, *bounds], output)
        if activation == "swish":
            return self.node("Mul", [source, self.node("Sigmoid", [source], f"{output}_gate")], output)
        if activation == "mish":
            gate = self.node("Tanh", [self.node("Softplus", [source], f"{output}_softplus")], f"{output}_gate")
            return self.node("Mul", [source, gate], output)
        kind, attributes = SIMPLE_ACTIVATIONS[activation]
        return self.node(kind, [source], output, **attributes)

    def _maxpool(self, layer: Maxpool, source: str, output: str) -> None:
        before = layer.padding // 2
        after = layer.padding - before
        pads, size = [before, before, after, after], [layer.size] * 2
        self.node("MaxPool", [source], output, kernel_shape=size, strides=[layer.stride] * 2, pads=pads)

    def _upsample(self, layer: Upsample, source: str, output: str) -> None:
        scales = self._constant(f"{output}_scales", [4], [1.0, 1.0, layer.stride, layer.stride], floats=True)
        ways = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        self.node("Resize", [source, "", scales], output, **ways)

    def _route(self, layer: Route, sources: Sequence[int], names: Sequence[str], output: str) -> str:
        parts = [
            name if layer.groups == 1 else self._part(layer, self._channels(source), name, f"{output}_part_{place}")
            for place, (source, name) in enumerate(zip(sources, names, strict=True))
        ]
        return parts[0] if len(parts) == 1 else self.node("Concat", parts, output, axis=1)

    def _channels(self, source: int) -> int:
        return self.config.net.channels if source == IMAGE else self._traced[source].shape[0]

    def _part(self, layer: Route, channels: int, source: str, output: str) -> str:
        width = channels // layer.groups
        ends = (layer.group_id * width, (layer.group_id + 1) * width, 1)
        bounds = [self._constant(f"{output}_{word}", [1], [end]) for word, end in zip(("from", "to", "axis"), ends, strict=True)]
        return self.node("Slice", [source, *bounds], output)

    def _constant(self, name: str, shape: list[int], values: Sequence[float], *, floats: bool = False) -> str:
        kind = 1 if floats else 7  # of onnx.TensorProto: FLOAT and INT64
        self.constants.append(self._helper.make_tensor(name, kind, shape, values))
        return name


class OnnxForward:
    """A network's raw heads and pooled features on a CPU, with as many threads as torch has when the weights are taken.

    Weights that were changed in place since (by an optimiser, `copy_`, `load_state_dict`, `load_weights`) are noticed at the next call and
    taken first; `follow` takes them at once. While one thread changes the weights, no other may call.
    Raises ConfigError if the network is not on a CPU, MissingExtraError without onnx and onnxruntime.
    """

    def __init__(self, net: Darknet) -> None:
        self._runtime = require("onnxruntime", "detect")
        self._net = net
        self._model = graph_model(net.config)
        self._tensors = [*net.parameters(), *net.buffers()]
        self._outputs = [*map(head_name, range(len(net.heads))), POOLED]
        if any(tensor.device.type != "cpu" for tensor in self._tensors):
            raise ConfigError("a darknet network runs in ONNX Runtime on a CPU only", hint="--device cpu, or the runtime eager")
        self._taken = -1

    def __call__(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """RGB float (B, 3, h, w) in [0, 1], of the network's input size -> its raw heads, and pooled features (B, D); see `graph_model`.

        Raises ValueError for images of another size.
        """
        width, height = self._net.input_size
        if images.shape[1:] != (self._net.config.net.channels, height, width):
            raise ValueError(f"images must be (B, {self._net.config.net.channels}, {height}, {width}): {tuple(images.shape)}")
        self.follow()
        found = self._session.run(self._outputs, {INPUT: np.ascontiguousarray(images.numpy(), np.float32)})
        *heads, pooled = map(torch.from_numpy, found)
        return heads, pooled

    def follow(self) -> None:
        """Take the network's current weights, if they changed since they were taken."""
        version = sum(map(_changes, self._tensors))
        if version == self._taken:
            return
        self._weights = graph_weights(self._net)  # kept: the session may read them in place
        options = session_options("detect", threads=torch.get_num_threads())
        values = [self._runtime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)
        self._session = self._runtime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
        self._taken = version
