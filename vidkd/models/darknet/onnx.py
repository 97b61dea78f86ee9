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

from vidkd.base.errors import ConfigError, require
from vidkd.models.darknet.cfg import Activation, Convolutional, DarknetConfig, Dropout, Maxpool, Route, Shortcut, Upsample, Yolo
from vidkd.models.darknet.graph import IMAGE, LEAKY_SLOPE, ConvolutionBlock, heads_of, trace
from vidkd.models.darknet.net import Darknet
from vidkd.runtime.networks import session_options

INPUT, POOLED = "images", "pooled"
OPSET, IR_VERSION = 13, 8
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
            weights |= {f"layers.{index}.weight": np.ascontiguousarray(kernel, np.float32), f"layers.{index}.bias": bias.astype(np.float32)}
    return weights


@functools.lru_cache(maxsize=4)
def graph_model(config: DarknetConfig) -> bytes:
    """The graph of a cfg as an ONNX model whose weights (`graph_weights`) are named, not held: they are given when it is loaded.

    Input "images", RGB float (B, 3, h, w) in [0, 1]. Outputs: "head_0", "head_1", ..., raw as those of the network, and "pooled" (B, D),
    the means over positions of the network's `deep_layers`, one behind the other.
    Raises MissingExtraError without the package onnx.
    """
    proto = require("onnx", "detect").TensorProto
    writer = _Writer(config)
    weights = [proto(name=name, data_type=proto.FLOAT, dims=dims, data_location=proto.EXTERNAL) for name, dims in writer.weights.items()]
    for tensor in weights:
        tensor.external_data.add(key="location", value="weights")  # the loader says where
    return bytes(writer.model([*writer.heads(), writer.pooled()], weights).SerializeToString())


def whole_model(net: Darknet) -> Any:
    """The same graph without "pooled", with the network's current weights in it: a complete ONNX model.

    Raises MissingExtraError without the package onnx.
    """
    from_array = require("onnx", "detect").numpy_helper.from_array
    writer = _Writer(net.config)
    return writer.model(writer.heads(), [from_array(value, name) for name, value in graph_weights(net).items()])


class _Writer:
    """The nodes of the graph, layer after layer. outputs: the name of what each layer puts out. weights: shapes, by name."""

    def __init__(self, config: DarknetConfig) -> None:
        self._onnx, self.config, self._traced = require("onnx", "detect"), config, trace(config)
        self._heads = heads_of(config, self._traced)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.outputs = {IMAGE: INPUT}
        self.weights: dict[str, tuple[int, ...]] = {}
        for index, traced in enumerate(self._traced):
            self.outputs[index] = self._layer(index, [self.outputs[source] for source in traced.sources], f"layer_{index}")

    def model(self, outputs: Sequence[str], weights: Sequence[Any]) -> Any:
        """The whole model with these outputs of `heads` and `pooled`, and these weights."""
        helper, floats, net = self._onnx.helper, self._onnx.TensorProto.FLOAT, self.config.net
        info = helper.make_tensor_value_info
        inputs = [info(INPUT, floats, ["batch", net.channels, net.height, net.width])]
        shown = [info(name, floats, ["batch", "features"] if name == POOLED else ["batch", None, None, None]) for name in outputs]
        graph = helper.make_graph(self.nodes, "darknet", inputs, shown, [*self.constants, *weights])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def heads(self) -> list[str]:
        """Add the raw heads as outputs; returns their names."""
        return [self._node("Identity", [self.outputs[head.layer]], head_name(place)) for place, head in enumerate(self._heads)]

    def pooled(self) -> str:
        """Add the means of the layers that the heads read, added ones aside, as the output "pooled"; returns its name."""
        sources = [head.features for head in self._heads]
        means = [self._node("GlobalAveragePool", [self.outputs[layer]], f"mean_{place}") for place, layer in enumerate(sources)]
        return self._node("Flatten", [self._node("Concat", means, "means", axis=1)], POOLED)

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add one; returns the name of its output."""
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def _layer(self, index: int, inputs: list[str], output: str) -> str:
        """Add a layer that reads these; returns the name of its output."""
        match layer := self.config.layers[index]:
            case Convolutional():
                return self._convolution(index, layer, inputs, output)
            case Maxpool():
                before = layer.padding // 2
                pads, size = [before] * 2 + [layer.padding - before] * 2, [layer.size] * 2
                return self._node("MaxPool", inputs, output, kernel_shape=size, strides=[layer.stride] * 2, pads=pads)
            case Upsample():
                scales = self._constant(f"{output}_scales", np.array([1, 1, layer.stride, layer.stride], np.float32))
                how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
                return self._node("Resize", [inputs[0], "", scales], output, **how)
            case Route():
                if layer.groups > 1:
                    channels = [self._channels(source) for source in self._traced[index].sources]
                    parts = zip(inputs, channels, strict=True)
                    inputs = [self._part(layer, name, count, f"{output}_part_{place}") for place, (name, count) in enumerate(parts)]
                return inputs[0] if len(inputs) == 1 else self._node("Concat", inputs, output, axis=1)
            case Shortcut():
                return self._activated(layer.activation, self._node("Add", inputs, f"{output}_sum"), output)
            case Dropout() | Yolo():
                return inputs[0]

    def _convolution(self, index: int, layer: Convolutional, inputs: list[str], output: str) -> str:
        channels = self._channels(self._traced[index].sources[0]) // layer.groups
        kernel, bias = f"layers.{index}.weight", f"layers.{index}.bias"
        self.weights |= {kernel: (layer.filters, channels, layer.size, layer.size), bias: (layer.filters,)}
        convolved = self._node(
            "Conv",
            [*inputs, kernel, bias],
            f"{output}_convolved",
            kernel_shape=[layer.size] * 2,
            strides=[layer.stride] * 2,
            pads=[layer.padding * layer.dilation] * 4,
            dilations=[layer.dilation] * 2,
            group=layer.groups,
        )
        return self._activated(layer.activation, convolved, output)

    def _activated(self, activation: Activation, source: str, output: str) -> str:
        match activation:
            case "linear":
                return source
            case "leaky":
                return self._node("LeakyRelu", [source], output, alpha=LEAKY_SLOPE)
            case "relu" | "logistic":
                return self._node({"relu": "Relu", "logistic": "Sigmoid"}[activation], [source], output)
            case "relu6":
                bounds = [self._constant(f"{output}_{word}", np.array(value, np.float32)) for word, value in (("least", 0), ("most", 6))]
                return self._node("Clip", [source, *bounds], output)
            case "swish":
                gate = self._node("Sigmoid", [source], f"{output}_gate")
            case "mish":
                gate = self._node("Tanh", [self._node("Softplus", [source], f"{output}_softplus")], f"{output}_gate")
        return self._node("Mul", [source, gate], output)

    def _channels(self, source: int) -> int:
        return self.config.net.channels if source == IMAGE else self._traced[source].shape[0]

    def _part(self, layer: Route, source: str, channels: int, output: str) -> str:
        """The part of its channels that a route with groups takes."""
        width = channels // layer.groups
        ends = {"from": layer.group_id * width, "to": (layer.group_id + 1) * width, "axis": 1}
        return self._node("Slice", [source, *(self._constant(f"{output}_{word}", np.array([end])) for word, end in ends.items())], output)


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
        """RGB float (B, 3, h, w) in [0, 1], of the network's input size -> its raw heads, and pooled features (B, D); see `graph_model`."""
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
