"""A darknet detector as a torch module, built from its cfg: one module for each kind of layer, the network, and heads added to it."""

import contextlib
import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.models.backbone import freeze_norm_statistics
from vidkd.models.darknet.blocks import (
    VALUES_BESIDE_CLASSES,
    Activation,
    Convolutional,
    DarknetConfig,
    Dropout,
    Layer,
    Maxpool,
    Route,
    Shortcut,
    Upsample,
    Yolo,
)
from vidkd.models.darknet.cfg import read_cfg
from vidkd.models.darknet.graph import IMAGE, Head, added_sections, heads_of, trace, with_sections

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
# A fresh head starts by calling 1 cell in 100 an object, so that empty cells do not drown the first steps (Lin et al. 2017, focal loss).
PRIOR_OBJECTNESS = 0.01
ADDED_FILTERS = 64


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
        if self.norm is not None and self.folds and not self.training:
            features = self.conv._conv_forward(features, *self.folded(self.conv.weight.dtype))
        else:
            features = self.conv(features)
            features = features if self.norm is None else self.norm(features)
        return self.activation(features)  # type: ignore[no-any-return]

    def folded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Kernel and bias of one convolution that does what block and normalisation (in eval mode) do, worked out in this type.

        Differentiable in the parameters, which torch's `fuse_conv_bn_weights` is not.
        """
        kernel = self.conv.weight.to(dtype)
        if self.norm is None:
            assert self.conv.bias is not None
            return kernel, self.conv.bias.to(dtype)
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = self.norm.weight.to(dtype) / (variance.to(dtype) + self.norm.eps).sqrt()
        return kernel * scale.view(-1, 1, 1, 1), self.norm.bias.to(dtype) - mean.to(dtype) * scale


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
    """The module of a block that reads `inputs` channels. A [yolo] passes its raw head through; see `decode`."""
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
        fixed front part. 1: the heads' own convolutions. An added one is parallel to the features that it reads, not behind them.
        Parameters are in the order of the cfg. Raises ValueError if blocks < 1.
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
    """For each convolution that a head depends on, how many others, added ones aside, are behind it on the longest way to a head."""
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
    unchanged, and so does `net` itself where all do. Raises ConfigError for a head whose convolution has groups, ValueError for
    filters < 1.
    The public code of TKD leaves its student unchanged and adds a decoder with boxes of its own, next to those of the student. Here a head
    can learn to take boxes back, and no box is found twice; the network is still one that a cfg describes. Source: reconstruction.
    """
    if filters < 1:
        raise ValueError(f"filters must be at least 1: {filters}")
    lacking = {head.layer - 1 for head in net.heads if head.added is None}
    if not lacking:
        return net
    sections = [list(_sections(net.config, place, filters, added=place in lacking)) for place in range(len(net.config.layers))]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of other devices, which are not restored
        made = Darknet(with_sections(net.config, sections)).to(next(net.parameters()))
    stop = 0
    for old, parts in zip(net.layers, sections, strict=True):
        stop += len(parts)
        if isinstance(old, ConvolutionBlock):
            _copy(old, made.layers[stop - 1])
    return made.train(net.training)


def _sections(config: DarknetConfig, place: int, filters: int, *, added: bool) -> Iterator[Layer]:
    layer = config.layers[place]
    if added:
        assert isinstance(layer, Convolutional)
        if layer.groups > 1:
            raise ConfigError(f"groups={layer.groups}: a head in groups cannot read a layer more", where=config.where(layer.line))
        yield from added_sections(filters)
    yield layer


@torch.no_grad()
def _copy(old: ConvolutionBlock, new: nn.Module) -> None:
    """The weights of a convolution into one that may read more channels before those that it read, which count nothing."""
    weights = old.state_dict()
    more = new.get_parameter("conv.weight").shape[1] - old.conv.weight.shape[1]
    weights["conv.weight"] = nn.functional.pad(old.conv.weight, (0, 0, 0, 0, more, 0))
    new.load_state_dict(weights)
