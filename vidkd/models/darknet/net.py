"""A darknet detector as a torch module, built from its cfg, and heads added to it."""

import contextlib
import itertools
import math
from collections.abc import Collection, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidkd.models.darknet.cfg import DarknetConfig, read_cfg
from vidkd.models.darknet.graph import IMAGE, ConvolutionBlock, Head, added_sections, build_layer, heads_of, trace, with_sections

# A fresh head starts by calling 1 cell in 100 an object, so that empty cells do not drown the first steps (Lin et al. 2017, focal loss).
PRIOR_OBJECTNESS = 0.01
ADDED_FILTERS = 64


class Darknet(nn.Module):
    """A detector with yolo heads.

    Attributes:
        config: the cfg that it was built from.
        input_size: (width, height) in pixels that the cfg states; other sizes work if both are multiples of the largest stride.
        classes: the number of classes.
        heads: the yolo heads in the order of the cfg.
        layers: one module for each section after [net], under darknet's index.

    Fresh weights are random (He et al. 2015), with few objects expected. Raises ConfigError for layers that do not fit together.
    """

    def __init__(self, config: DarknetConfig) -> None:
        super().__init__()
        nodes = trace(config)
        self.config = config
        self.heads: tuple[Head, ...] = heads_of(config, nodes)
        self.classes = self.heads[0].classes
        self.input_size = (config.net.width, config.net.height)
        self.sources = tuple(node.sources for node in nodes)
        """For each layer those that it reads: an index from 0, or -1 for the image."""
        channels = [config.net.channels if node.sources[0] == IMAGE else nodes[node.sources[0]].shape[0] for node in nodes]
        self.layers = nn.ModuleList(build_layer(block, inputs) for block, inputs in zip(config.layers, channels, strict=True))
        self._last_readers = {source: index for index, read in enumerate(self.sources) for source in read}
        self._distances = _distances(self)
        with torch.no_grad():
            for head in self.heads:
                block = self.layers[head.layer - 1]
                bias = block.conv.bias if block.norm is None else block.norm.bias  # type: ignore[union-attr]  # ConvolutionBlock
                bias.view(len(head.anchors), -1)[:, 4] = math.log(PRIOR_OBJECTNESS / (1 - PRIOR_OBJECTNESS))  # type: ignore

    @classmethod
    def from_cfg(cls, path: Path | str, *, classes: int | None = None, input_size: tuple[int, int] | None = None) -> "Darknet":
        """The network of a cfg file, with random weights.

        classes: instead of those of the cfg; [yolo] and the filters of the convolution before it follow. input_size: (width, height)
        instead of that of the cfg. Raises ConfigError as `read_cfg` and the class do.
        """
        config = read_cfg(path)
        if classes is not None:
            config = config.with_classes(classes)
        if input_size is not None:
            config = config.with_input_size(*input_size)
        return cls(config)

    def forward(self, images: Tensor) -> list[Tensor]:
        """RGB float (B, 3, H, W) in [0, 1] -> the raw heads (B, A*(5+C), h, w), in the order of `heads`.

        Channels of a head: for each anchor x, y, w, h, objectness, then the classes, all before sigmoid and exponential.
        The sides of the images are multiples of the largest stride.
        """
        return self.features(images, ())[0]

    def features(self, images: Tensor, layers: Collection[int]) -> tuple[list[Tensor], dict[int, Tensor]]:
        """`forward`, and from the same pass the outputs (B, C, h, w) of the layers with these indices.

        `deep_layers` are a good choice.
        """
        wanted = {head.layer for head in self.heads} | set(layers)
        outputs = {IMAGE: images}
        for index, layer in enumerate(self.layers):
            outputs[index] = layer(*(outputs[source] for source in self.sources[index]))
            for source in set(self.sources[index]):
                if self._last_readers[source] == index and source not in wanted:
                    del outputs[source]
        return [outputs[head.layer] for head in self.heads], {index: outputs[index] for index in layers}

    @property
    def deep_layers(self) -> tuple[int, ...]:
        """For each head the layer that it reads, an added one aside: the deepest features before the heads."""
        return tuple(head.features for head in self.heads)

    def head_parameters(self) -> list[nn.Parameter]:
        """Weights and biases of the last convolution of every head."""
        return self.last_parameters(1)

    def last_parameters(self, blocks: int) -> list[nn.Parameter]:
        """Parameters of the convolution blocks (with their normalisation) that are among the last `blocks` before a head.

        A block counts by the longest way from it to a head, so whatever reads a listed block is listed too: the rest of the network is a
        fixed front part. 1: the heads' own convolutions. An added one is parallel to the features that it reads, not behind them.
        Parameters are in the order of the cfg.
        """
        near = [index for index, distance in self._distances.items() if distance < blocks]
        return [parameter for index in sorted(near) for parameter in self.layers[index].parameters()]

    def added_parameters(self) -> list[nn.Parameter]:
        """Of added heads (`with_added_head`), with the heads' last convolutions; in the order of the cfg, none without an added head."""
        added = {layer for head in self.heads if head.added is not None for layer in (head.added, head.layer - 1)}
        return [parameter for index in sorted(added) for parameter in self.layers[index].parameters()]


def _distances(net: Darknet) -> dict[int, int]:
    """For each convolution that a head depends on, how many others, added ones aside, are behind it on the longest way to a head."""
    behind, added = {head.layer: 0 for head in net.heads}, {head.added for head in net.heads}
    for index in reversed(range(len(net.layers))):
        if index not in behind:
            continue
        step = isinstance(net.layers[index], ConvolutionBlock) and index not in added
        for source in net.sources[index]:
            behind[source] = max(behind.get(source, 0), behind[index] + step)
    return {index: count for index, count in behind.items() if index != IMAGE and isinstance(net.layers[index], ConvolutionBlock)}


def convolution_blocks(net: Darknet) -> Iterator[ConvolutionBlock]:
    """The convolution blocks in the order of the cfg, which is that of a weights file."""
    return (layer for layer in net.layers if isinstance(layer, ConvolutionBlock))


@contextlib.contextmanager
def folded_norms(net: Darknet) -> Iterator[None]:
    """Within it, in eval mode, forward passes of `net` fold each normalisation into the convolution before it, gradients included.

    A training step with one pass over each map less; kernels and biases are worked out from the current parameters at each call.
    """
    blocks = [block for block in convolution_blocks(net) if type(block.conv) is nn.Conv2d]
    for block in blocks:
        block.folds = True
    try:
        yield
    finally:
        for block in blocks:
            block.folds = False


def with_added_head(net: Darknet, *, filters: int = ADDED_FILTERS, seed: int = 0) -> Darknet:
    """A network whose heads read a new layer too: a 3x3 convolution with so many filters over what they read so far.

    Its raw heads are those of `net`, for the heads' weights of what is new are zeros, until it learns (`Darknet.added_parameters`); the new
    kernels are random by `seed`. It has the type, the device and the mode of `net`, which is not changed. Heads that have an added one stay
    unchanged, and so does `net` itself where all do.
    The public code of TKD leaves its student unchanged and adds a decoder with boxes of its own, next to those of the student. Here a head
    can learn to take boxes back, and no box is found twice; the network is still one that a cfg describes. Source: reconstruction.
    """
    lacking = {head.layer - 1 for head in net.heads if head.added is None}
    if not lacking:
        return net
    added = added_sections(filters)
    sections = [(*added, layer) if place in lacking else (layer,) for place, layer in enumerate(net.config.layers)]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of other devices, which are not restored
        made = Darknet(with_sections(net.config, sections)).to(next(net.parameters()))
        for old, end in zip(net.layers, itertools.accumulate(map(len, sections)), strict=True):
            _copy(old, made.layers[end - 1])
    return made.train(net.training)


def _copy(old: nn.Module, new: nn.Module) -> None:
    """The weights of a layer into one that may read more channels before those that it read, which count nothing."""
    weights = old.state_dict()
    if "conv.weight" in weights:
        more = new.get_parameter("conv.weight").shape[1] - weights["conv.weight"].shape[1]
        weights["conv.weight"] = F.pad(weights["conv.weight"], (0, 0, 0, 0, more, 0))
    new.load_state_dict(weights)
