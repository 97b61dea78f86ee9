"""The forward pass with each normalisation folded into the convolution before it, gradients included: a training step with fewer passes."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vidkd.models.darknet.layers import NORM_EPSILON, ConvolutionBlock
from vidkd.models.darknet.net import Darknet


class FoldedForward:
    """Called with images as a network is, it gives its raw heads, and gradients to its parameters, with one pass over each map less.

    The network must be in eval mode, where a normalisation is a scale and a shift of each channel: kernels and biases that do the same
    are worked out from its parameters as they are at each call. It holds no weights of its own.
    """

    def __init__(self, net: Darknet) -> None:
        self._net = net
        self._shell = copy.deepcopy(net).to("meta")
        self._folded = [name for name, _ in _foldable(net)]
        for _, block in _foldable(self._shell):
            block.norm = None
            block.conv.bias = nn.Parameter(torch.empty(block.conv.out_channels, device="meta"))

    def __call__(self, images: Tensor) -> list[Tensor]:
        """RGB float (B, 3, H, W) in [0, 1] -> the raw heads, as `Darknet.forward`. Raises ValueError in training mode, and as that does."""
        if self._net.training:
            raise ValueError("a normalisation can be folded in eval mode only: call net.eval() first")
        weights = dict(self._net.named_parameters()) | dict(self._net.named_buffers())
        for name in self._folded:
            _fold(weights, name)
        return functional_call(self._shell, weights, (images,))  # type: ignore[no-any-return]


def _foldable(net: Darknet) -> Iterator[tuple[str, ConvolutionBlock]]:
    """Blocks, with their names, of one plain convolution with a normalisation behind it."""
    for name, module in net.named_modules():
        if isinstance(module, ConvolutionBlock) and type(module.conv) is nn.Conv2d and module.norm is not None:
            yield name, module


def _fold(weights: dict[str, Tensor], name: str) -> None:
    """Put the folded kernel and bias of a block in the place of its parameters."""
    norm = f"{name}.norm"
    mean, variance = weights.pop(f"{norm}.running_mean"), weights.pop(f"{norm}.running_var")
    del weights[f"{norm}.num_batches_tracked"]
    scale = weights.pop(f"{norm}.weight") * torch.rsqrt(variance + NORM_EPSILON)
    weights[f"{name}.conv.weight"] = weights[f"{name}.conv.weight"] * scale.view(-1, 1, 1, 1)
    weights[f"{name}.conv.bias"] = weights.pop(f"{norm}.bias") - mean * scale
