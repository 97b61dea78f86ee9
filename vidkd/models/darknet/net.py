"""A darknet detector as a torch module, built from its cfg."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vidkd.models.backbone import freeze_norm_statistics
from vidkd.models.darknet.blocks import VALUES_BESIDE_CLASSES, DarknetConfig
from vidkd.models.darknet.cfg import read_cfg
from vidkd.models.darknet.graph import IMAGE, Head, heads_of, trace
from vidkd.models.darknet.layers import ConvolutionBlock, build_layer

# A fresh head starts by calling 1 cell in 100 an object, so that empty cells do not drown the first steps (Lin et al. 2017, focal loss).
PRIOR_OBJECTNESS = 0.01


class Darknet(nn.Module):
    """A detector with yolo heads.

    Attributes:
        config: the cfg that it was built from.
        input_size: (width, height) in pixels that the cfg states; other sizes work if both are multiples of the largest stride.
        classes: how many classes it tells apart.
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
        self._sources = tuple(node.sources for node in nodes)
        channels = [config.net.channels if node.sources[0] == IMAGE else nodes[node.sources[0]].shape[0] for node in nodes]
        self.layers = nn.ModuleList(build_layer(block, inputs) for block, inputs in zip(config.layers, channels, strict=True))
        self._last_readers = _last_readers(self._sources)
        self._distances = _distances(self)
        for head in self.heads:
            _expect_few_objects(self._head_block(head), head)

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
        Raises ValueError unless the images have the channels of the cfg and sides that are multiples of the largest stride.
        """
        return self.features(images, ())[0]

    def features(self, images: Tensor, layers: Collection[int]) -> tuple[list[Tensor], dict[int, Tensor]]:
        """`forward`, and from the same pass the outputs (B, C, h, w) of the layers with these indices.

        `deep_layers` are a good choice. Raises ValueError as `forward` does, and for an index that no layer has.
        """
        self._check(images, layers)
        wanted = {head.layer for head in self.heads} | set(layers)
        outputs = {IMAGE: images}
        for index, layer in enumerate(self.layers):
            outputs[index] = layer(*(outputs[source] for source in self._sources[index]))
            for source in set(self._sources[index]):
                if self._last_readers[source] == index and source not in wanted:
                    del outputs[source]
        return [outputs[head.layer] for head in self.heads], {index: outputs[index] for index in layers}

    @property
    def deep_layers(self) -> tuple[int, ...]:
        """For each head the layer that it reads, an added one aside: the deepest features before the heads."""
        return tuple(head.features for head in self.heads)

    @property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """For each layer those that it reads: an index from 0, or -1 for the image."""
        return self._sources

    def head_convolution(self, head: Head) -> nn.Conv2d:
        """The convolution that puts out this raw head."""
        return self._head_block(head).conv

    def _head_block(self, head: Head) -> ConvolutionBlock:
        block = self.layers[head.layer - 1]
        assert isinstance(block, ConvolutionBlock)
        return block

    def head_parameters(self) -> list[nn.Parameter]:
        """Weights and biases of the last convolution of every head."""
        return self.last_parameters(1)

    def last_parameters(self, blocks: int) -> list[nn.Parameter]:
        """Parameters of the convolution blocks (with their normalisation) that are among the last `blocks` before a head.

        A block counts by the longest way from it to a head, so whatever reads a listed block is listed too: the rest of the network is a
        fixed front part. 1: the heads' own convolutions. An added one lies beside the features that it reads, not behind them.
        Parameters stand in the order of the cfg. Raises ValueError if blocks < 1.
        """
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1: {blocks}")
        near = [index for index, distance in self._distances.items() if distance < blocks]
        return [parameter for index in sorted(near) for parameter in self.layers[index].parameters()]

    def added_parameters(self) -> list[nn.Parameter]:
        """Of added heads (`with_added_head`), with the heads' last convolutions; in the order of the cfg, none without an added head."""
        added = {layer for head in self.heads if head.added is not None for layer in (head.added, head.layer - 1)}
        return [parameter for index in sorted(added) for parameter in self.layers[index].parameters()]

    def freeze_norm_statistics(self) -> "Darknet":
        """Put batch normalisation into eval mode: statistics are used, not updated. Call it again after each `train()`."""
        freeze_norm_statistics(self)
        return self

    def _check(self, images: Tensor, layers: Collection[int]) -> None:
        stride = max(head.stride for head in self.heads)
        channels = self.config.net.channels
        if images.ndim != 4 or images.shape[1] != channels or images.shape[2] % stride or images.shape[3] % stride:
            raise ValueError(f"images must be (B, {channels}, H, W) with H and W multiples of {stride}: {tuple(images.shape)}")
        if not set(layers) <= set(range(len(self.layers))):
            raise ValueError(f"layers must be indices from 0 to {len(self.layers) - 1}: {sorted(layers)}")


def _last_readers(sources: tuple[tuple[int, ...], ...]) -> dict[int, int]:
    """The last layer that reads each one: after it, the output need not be kept."""
    return {source: index for index, read in enumerate(sources) for source in read}


def _distances(net: Darknet) -> dict[int, int]:
    """For each convolution that a head depends on, how many others, added ones aside, lie behind it on the longest way to a head."""
    behind, added = {head.layer: 0 for head in net.heads}, {head.added for head in net.heads}
    for index in reversed(range(len(net.layers))):
        if index not in behind:
            continue
        step = isinstance(net.layers[index], ConvolutionBlock) and index not in added
        for source in net._sources[index]:
            behind[source] = max(behind.get(source, 0), behind[index] + step)
    return {index: count for index, count in behind.items() if index != IMAGE and isinstance(net.layers[index], ConvolutionBlock)}


@torch.no_grad()
def _expect_few_objects(block: ConvolutionBlock, head: Head) -> None:
    own = block.conv.bias if block.norm is None else block.norm.bias
    assert own is not None
    bias = own.view(len(head.anchors), VALUES_BESIDE_CLASSES + head.classes)
    bias[:, 4] = math.log(PRIOR_OBJECTNESS / (1 - PRIOR_OBJECTNESS))


def convolution_blocks(net: Darknet) -> Iterator[ConvolutionBlock]:
    """The convolution blocks in the order of the cfg, which is that of a weights file."""
    return (layer for layer in net.layers if isinstance(layer, ConvolutionBlock))
