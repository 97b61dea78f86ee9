"""A cfg as a graph: the torch module of each kind of layer, inputs and output size of each layer, and the heads."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.losses.yolo_heads import HeadSpec
from vidkd.models.darknet.cfg import Activation, Convolutional, DarknetConfig, Dropout, Layer, Maxpool, Route, Shortcut, Upsample, Yolo

LEAKY_SLOPE = 0.1
# Added to the variance, as OpenCV's importer does; the versions of darknet itself differ among each other, between 1e-6 and 1e-5.
NORM_EPSILON = 1e-6

ACTIVATION_MODULES: dict[Activation, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "leaky": lambda: nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "mish": nn.Mish,
    "logistic": nn.Sigmoid,
    "swish": nn.SiLU,
}


class ConvolutionBlock(nn.Module):
    """Convolution, batch normalisation (`norm` is None without), activation: (B, C, H, W) -> (B, filters, H', W').

    folds: whether the normalisation is folded into the convolution at each call in eval mode; see `folded_norms`.
    """

    def __init__(self, block: Convolutional, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            block.filters,
            block.size,
            stride=block.stride,
            padding=block.padding * block.dilation,
            dilation=block.dilation,
            groups=block.groups,
            bias=not block.batch_normalize,
        )
        self.norm = nn.BatchNorm2d(block.filters, eps=NORM_EPSILON) if block.batch_normalize else None
        self.folds = False
        self.activation = ACTIVATION_MODULES[block.activation]()
        nn.init.kaiming_normal_(self.conv.weight, a=LEAKY_SLOPE)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor) -> Tensor:
        """As the class says."""
        if self.norm is None:
            return self.activation(self.conv(features))  # type: ignore[no-any-return]
        if self.folds and not self.training:
            return self.activation(self.conv._conv_forward(features, *self.folded(self.conv.weight.dtype)))  # type: ignore[no-any-return]
        return self.activation(self.norm(self.conv(features)))  # type: ignore[no-any-return]

    def folded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Kernel and bias of one convolution that does what block and normalisation (in eval mode) do, worked out in this type.

        Differentiable in the parameters, which torch's `fuse_conv_bn_weights` is not.
        """
        kernel = self.conv.weight.to(dtype)
        if self.norm is None:
            return kernel, self.conv.bias.to(dtype)  # type: ignore[union-attr]  # without normalisation it has a bias
        mean, variance = (self.norm.get_buffer(name).to(dtype) for name in ("running_mean", "running_var"))
        scale = self.norm.weight.to(dtype) / (variance + self.norm.eps).sqrt()
        return kernel * scale.view(-1, 1, 1, 1), self.norm.bias.to(dtype) - mean * scale


class MaxPool(nn.Module):
    """Darknet's max pooling: of `padding` rows and columns in all, half, rounded down, are above and to the left."""

    def __init__(self, block: Maxpool) -> None:
        super().__init__()
        self.size, self.stride, self.before = block.size, block.stride, block.padding // 2
        self.one_more_after = block.padding % 2 == 1

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        ceil = self.one_more_after and self.stride == 2
        if self.one_more_after and not ceil:
            # A repeated last row never wins over the row itself, which every window that reaches it holds too.
            features = F.pad(features, (0, 1, 0, 1), mode="replicate")
        # At stride 2 rounding up reads exactly the windows that one more row would add, without copying the map.
        return F.max_pool2d(features, self.size, self.stride, self.before, ceil_mode=ceil)


class Join(nn.Module):
    """Route: channels of all inputs one behind the other, of each only one of `groups` equal parts."""

    def __init__(self, block: Route) -> None:
        super().__init__()
        self.groups, self.part = block.groups, block.group_id

    def forward(self, *features: Tensor) -> Tensor:
        """(B, C_i, H, W) each -> (B, sum of C_i / groups, H, W)."""
        # not parted where there is one part: the dependency graph of pruning would take it for a cut
        parts = features if self.groups == 1 else tuple(each.chunk(self.groups, 1)[self.part] for each in features)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class Residual(nn.Module):
    """Shortcut: the sum of two inputs of one shape, then the activation."""

    def __init__(self, block: Shortcut) -> None:
        super().__init__()
        self.activation = ACTIVATION_MODULES[block.activation]()

    def forward(self, features: Tensor, earlier: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B, C, H, W)."""
        return self.activation(features + earlier)  # type: ignore[no-any-return]


def build_layer(block: Layer, inputs: int) -> nn.Module:
    """The module of a block that reads `inputs` channels. A [yolo] passes its raw head through."""
    match block:
        case Convolutional():
            return ConvolutionBlock(block, inputs)
        case Maxpool():
            return MaxPool(block)
        case Upsample():
            return nn.Upsample(scale_factor=block.stride, mode="nearest")
        case Route():
            return Join(block)
        case Shortcut():
            return Residual(block)
        case Dropout():
            return nn.Dropout(block.probability)
        case Yolo():
            return nn.Identity()


IMAGE = -1
"""The index of the input image among the layers."""

CHOOSE_MULTIPLES = "fix the cfg, or choose width and height of the input as multiples of the largest stride, mostly 32"

MOST_PARAMETERS, MOST_VALUES = 2**29, 2**28
"""Bounds of a cfg, far above any detector: weights of the network (2 GiB), and values that one layer puts out for one image (1 GiB)."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Node:
    """sources: the layers that one reads, IMAGE or an index from 0. shape: (channels, height, width) that it puts out."""

    sources: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Head(HeadSpec):
    """One yolo head of a network: the meaning of its raw output, and its place.

    layer: index of its [yolo]; the convolution before it puts out the raw head. source: the layer that this convolution reads.
    mask: the indices of its anchors among those of the cfg.
    added: the convolution that `with_added_head` put there, where `source` joins one such with what that one reads.
    """

    layer: int
    source: int
    mask: tuple[int, ...]
    added: int | None = None

    @property
    def features(self) -> int:
        """The layer that the head reads, an added one aside."""
        return self.source if self.added is None else self.added - 1


@functools.lru_cache(maxsize=8)
@torch.inference_mode()
def trace(config: DarknetConfig) -> tuple[Node, ...]:
    """Sources and sizes of all layers at the input size of the cfg: torch runs each on its meta device, without numbers.

    Raises ConfigError with file:line where layers do not fit together, or the network is larger than any memory.
    """
    outputs = {IMAGE: (config.net.channels, config.net.height, config.net.width)}
    nodes: list[Node] = []
    parameters = 0
    for index, layer in enumerate(config.layers):
        sources, where = _sources(index, layer), config.where(layer.line)
        if not all(IMAGE <= source < index for source in sources):
            raise ConfigError(
                f"[{layer.section}] reads layer {min(sources)} or {max(sources)}, and only {index} are before it", where=where
            )
        shapes = [outputs[source] for source in sources]
        sizes = " and ".join("x".join(map(str, shape)) for shape in shapes)
        try:
            with torch.device("meta"):
                module = build_layer(_plain(layer), shapes[0][0])
                channels, height, width = module(*(torch.empty(1, *shape) for shape in shapes)).shape[1:]
        except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"[{layer.section}] cannot read {sizes}", where=where, reason=reason, hint=CHOOSE_MULTIPLES) from None
        parameters += sum(parameter.numel() for parameter in module.parameters())
        if not 0 < channels * height * width <= MOST_VALUES or parameters > MOST_PARAMETERS:
            what = f"{sizes} becomes {channels}x{height}x{width}, after {parameters:,} weights"
            raise ConfigError(f"too small or too large for a network: {what}", where=where)
        outputs[index] = (channels, height, width)
        nodes.append(Node(sources, outputs[index]))
    return tuple(nodes)


def _plain(layer: Layer) -> Layer:
    """A layer of the same size that is traced faster: without normalisation and activation."""
    return dataclasses.replace(layer, batch_normalize=False, activation="linear") if isinstance(layer, Convolutional) else layer


def _sources(index: int, layer: Layer) -> tuple[int, ...]:
    match layer:
        case Route():
            numbers = layer.layers
        case Shortcut():
            numbers = (-1, layer.from_layer)
        case _:
            return (index - 1,)
    return tuple(index + number if number < 0 else number for number in numbers)


def heads_of(config: DarknetConfig, nodes: Sequence[Node]) -> tuple[Head, ...]:
    """The heads in the order of the cfg.

    Raises ConfigError if there are none, if they differ in their classes, or if a grid does not divide the input evenly.
    """
    heads = tuple(_head(config, nodes, index, layer) for index, layer in enumerate(config.layers) if isinstance(layer, Yolo))
    if not heads:
        raise ConfigError("a detector needs at least one [yolo]", where=config.where(0))
    if len({head.classes for head in heads}) > 1:
        raise ConfigError(f"heads differ in their classes: {[head.classes for head in heads]}", where=config.where(0))
    return heads


def unused_anchors(config: DarknetConfig) -> tuple[tuple[float, float], ...]:
    """The anchors that a [yolo] lists and no head has in its mask (one in tiny-YOLOv3); boxes that fit them best have no cell."""
    yolos = [layer for layer in config.layers if isinstance(layer, Yolo)]
    used = {yolo.anchors[number] for yolo in yolos for number in yolo.mask}
    return tuple(dict.fromkeys(anchor for yolo in yolos for anchor in yolo.anchors if anchor not in used))


def _head(config: DarknetConfig, nodes: Sequence[Node], index: int, yolo: Yolo) -> Head:
    convolution = config.before_head(index)
    if convolution.filters != yolo.filters:
        raise ConfigError(
            f"filters={convolution.filters} before [yolo] must be {yolo.filters}: {len(yolo.mask)} anchors x (5 + {yolo.classes} classes)",
            where=config.where(convolution.line),
        )
    _, height, width = nodes[index].shape
    net, source = config.net, nodes[index - 1].sources[0]
    if net.width % width or net.height % height or net.width // width != net.height // height:
        raise ConfigError(
            f"an input of {net.width}x{net.height} does not divide evenly into the {width}x{height} cells of a head",
            where=config.where(yolo.line),
            hint=CHOOSE_MULTIPLES,
        )
    return Head(
        layer=index,
        source=source,
        added=_added(config, nodes, source),
        anchors=tuple(yolo.anchors[number] for number in yolo.mask),
        mask=yolo.mask,
        stride=net.width // width,
        scale_x_y=yolo.scale_x_y,
        classes=yolo.classes,
        unused_anchors=unused_anchors(config),
    )


def added_sections(filters: int) -> tuple[Convolutional, Route]:
    """The sections that an added head puts before a head's convolution: a hidden layer over what that one reads, and both joined."""
    return Convolutional(filters=filters, size=3, padding=1, activation="leaky"), Route(layers=(-1, -2))


def _added(config: DarknetConfig, nodes: Sequence[Node], source: int) -> int | None:
    """The hidden layer of an added head that ends in `source`, read by nothing else; None where that is another layer."""
    hidden = source - 1
    before = config.layers[max(hidden, 0)]
    if not isinstance(before, Convolutional) or (before, config.layers[source]) != added_sections(before.filters):
        return None
    readers = [index for index, node in enumerate(nodes) if {hidden, source} & set(node.sources)]
    return hidden if readers == [source, source + 1] else None


def with_sections(config: DarknetConfig, sections: Sequence[Sequence[Layer]]) -> DarknetConfig:
    """The cfg in which each layer is replaced by some sections, of which the last puts out what the layer did.

    sections: at least one for each layer. Where the last is a [route] or [shortcut], it refers to layers by the numbers of `config`; one
    before it refers to the sections right before itself, by negative numbers.
    """
    last, count = [], 0  # of each old layer, the new one that puts out what it did
    for parts in sections:
        count += len(parts)
        last.append(count - 1)
    layers = [part for old, (*new, kept) in enumerate(sections) for part in (*new, _renumbered(kept, old, last))]
    return dataclasses.replace(config, layers=tuple(layers))


def _renumbered(layer: Layer, old: int, last: Sequence[int]) -> Layer:
    """A layer that refers to others by number; `old` is its own number before."""

    def follow(number: int) -> int:
        return last[old + number] - last[old] if number < 0 else last[number]

    if isinstance(layer, Route):
        return dataclasses.replace(layer, layers=tuple(follow(number) for number in layer.layers))
    if isinstance(layer, Shortcut):
        return dataclasses.replace(layer, from_layer=follow(layer.from_layer))
    return layer
