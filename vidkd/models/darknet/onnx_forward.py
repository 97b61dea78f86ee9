"""The forward pass of a darknet network in ONNX Runtime: faster than eager torch on a processor, and following the weights as they learn.

ONNX Runtime lays weights out for the processor when a model is loaded, and much of its speed comes from that; it does so only for weights
that cannot change. So the graph is written once, and new weights mean a new session over it, made aside and put in place whole.
"""

import operator

import numpy as np
import torch
from torch import Tensor

from vidkd.base.errors import ConfigError
from vidkd.base.extras import require
from vidkd.models.darknet.net import Darknet
from vidkd.models.darknet.onnx_graph import INPUT, POOLED, graph_model, graph_weights, head_name
from vidkd.runtime.onnx_network import session_options

_changes = operator.attrgetter("_version")  # torch counts the changes of each tensor


class OnnxForward:
    """A network's raw heads and pooled features on a processor, with as many threads as torch has when the weights are taken.

    Weights that were changed in place since (by an optimiser, `copy_`, `load_state_dict`, `load_weights`) are noticed at the next call and
    taken first; `follow` takes them at once. While one thread changes the weights, no other may call.
    Raises ConfigError if the network is not on a processor, MissingExtraError without onnx and onnxruntime.
    """

    def __init__(self, net: Darknet) -> None:
        self._runtime = require("onnxruntime", "detect")
        self._net = net
        self._model = graph_model(net.config)
        self._tensors = [*net.parameters(), *net.buffers()]
        self._outputs = [*map(head_name, range(len(net.heads))), POOLED]
        if any(tensor.device.type != "cpu" for tensor in self._tensors):
            raise ConfigError("a darknet network runs in ONNX Runtime on the processor alone", to_mend="--device cpu, or the runtime eager")
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
        """Take the network's weights as they are now, if they changed since they were taken."""
        version = sum(map(_changes, self._tensors))
        if version == self._taken:
            return
        self._weights = graph_weights(self._net)  # kept: the session may read them where they lie
        options = session_options("detect", threads=torch.get_num_threads())
        values = [self._runtime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)
        self._session = self._runtime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
        self._taken = version
