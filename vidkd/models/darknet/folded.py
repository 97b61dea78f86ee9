"""The forward pass with each normalisation folded into the convolution before it, gradients included: a training step with fewer passes."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vidkd.models.darknet.layers import ConvolutionBlock
from vidkd.models.darknet.net import Darknet


class FoldedForward:
    """Called with images as a network is, it gives its raw heads, and gradients to its parameters, with one pass over each map less.

    The network must be in eval mode, where a normalisation is a scale and a shift of each channel: kernels and biases that do the same
    are worked out from its parameters as they are at each call. It holds no weights of its own.
    """

    def __init__(self, net: Darknet) -> None:
        self._net = net
        self._shell = copy.deepcopy(net).to("meta")
        for _, block in _foldable(self._shell):
            block.norm = None
            block.conv.bias = nn.Parameter(torch.empty(block.conv.out_channels, device="meta"))

    def __call__(self, images: Tensor) -> list[Tensor]:
        """RGB float (B, 3, H, W) in [0, 1] -> the raw heads, as `Darknet.forward`. Raises ValueError in training mode, and as that does."""
        if self._net.training:
            raise ValueError("a normalisation can be folded in eval mode only: call net.eval() first")
        weights = dict(self._net.named_parameters()) | dict(self._net.named_buffers())
        for name, block in _foldable(self._net):
            assert block.norm is not None
            for part in block.norm.state_dict():
                del weights[f"{name}.norm.{part}"]
            weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"] = folded(block, block.conv.weight.dtype)
        return functional_call(self._shell, weights, (images,))  # type: ignore[no-any-return]


def folded(block: ConvolutionBlock, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Kernel and bias of one convolution that does what block and normalisation (in eval mode) do, worked out in this type."""
    kernel = block.conv.weight.to(dtype)
    if block.norm is None:
        assert block.conv.bias is not None
        return kernel, block.conv.bias.to(dtype)
    mean, variance = block.norm.running_mean, block.norm.running_var
    assert mean is not None
    assert variance is not None
    scale = block.norm.weight.to(dtype) / (variance.to(dtype) + block.norm.eps).sqrt()
    return kernel * scale.view(-1, 1, 1, 1), block.norm.bias.to(dtype) - mean.to(dtype) * scale


def _foldable(net: Darknet) -> Iterator[tuple[str, ConvolutionBlock]]:
    """Blocks, with their names, of one plain convolution with a normalisation behind it."""
    for name, module in net.named_modules():
        if isinstance(module, ConvolutionBlock) and type(module.conv) is nn.Conv2d and module.norm is not None:
            yield name, module
