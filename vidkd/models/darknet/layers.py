"""The torch module of each kind of layer of a darknet cfg."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidkd.models.darknet.blocks import Activation, Convolutional, Dropout, Layer, Maxpool, Route, Shortcut, Upsample, Yolo

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
