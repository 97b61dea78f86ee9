"""Layers of low rank: replacements of a convolution or a linear layer whose weight is a product of smaller ones.

- ``channel``: r filters of the layer's own kernel, then a 1x1 convolution to its outputs (Zhang et al. 2016, arXiv 1505.06798). For
  a linear layer two linear ones.
- ``spatial``: the kernel is split between the two. Conv2d: r filters of height kh, then filters of width kw (Jaderberg et al. 2014, arXiv
  1405.3866). Conv3d: r filters in space, then filters in time, as R(2+1)D is built (Tran et al. 2018, arXiv 1711.11248).
- ``tucker``: 1x1 to the second rank, the layer's own kernel between the ranks, 1x1 from the first to the outputs (Kim et al. 2016, arXiv
  1511.06530).
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import nn

Method = Literal["channel", "spatial", "tucker"]
METHODS: tuple[Method, ...] = get_args(Method)

Factorable: TypeAlias = nn.Conv2d | nn.Conv3d | nn.Linear


class LowRank(nn.Sequential):
    """The layers that replace one, in order; the last has its bias."""


def low_rank(layer: Factorable, method: Method, ranks: Sequence[int]) -> LowRank:
    """The layers for `layer` with weights of zero, on its device and in its type. ranks: (r,), for "tucker" (of outputs, of inputs)."""
    made = _linears(layer, ranks[0]) if isinstance(layer, nn.Linear) else _convolutions(layer, method, ranks)
    empty = LowRank(*made).to(layer.weight.dtype).to_empty(device=layer.weight.device)
    for parameter in empty.parameters():
        nn.init.zeros_(parameter)
    return empty.train(layer.training)


def _linears(layer: nn.Linear, rank: int) -> list[nn.Module]:
    with torch.device("meta"):  # the usual random weights would be drawn in vain
        return [nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=layer.bias is not None)]


def _convolutions(layer: nn.Conv2d | nn.Conv3d, method: Method, ranks: Sequence[int]) -> list[nn.Module]:
    every = range(len(layer.kernel_size))
    inputs, outputs = layer.in_channels, layer.out_channels
    if method == "tucker":
        return [
            _part(layer, inputs, ranks[1], ()),
            _part(layer, ranks[1], ranks[0], every),
            _part(layer, ranks[0], outputs, (), last=True),
        ]
    first, second = axes(layer, method)
    return [_part(layer, inputs, ranks[0], first), _part(layer, ranks[0], outputs, second, last=True)]


def _part(layer: nn.Conv2d | nn.Conv3d, inputs: int, outputs: int, kept: Sequence[int], *, last: bool = False) -> nn.Module:
    """A convolution with the kernel, stride, padding and dilation of `layer` along the axes `kept`, 1x1 along the others."""
    assert not isinstance(layer.padding, str)

    def along(values: Sequence[int], other: int) -> tuple[int, ...]:
        return tuple(value if axis in kept else other for axis, value in enumerate(values))

    kind = nn.Conv3d if isinstance(layer, nn.Conv3d) else nn.Conv2d
    with torch.device("meta"):
        return kind(
            inputs,
            outputs,
            along(layer.kernel_size, 1),  # type: ignore[arg-type]  # as many numbers as `kind` wants
            stride=along(layer.stride, 1),  # type: ignore[arg-type]
            padding=along(layer.padding, 0),  # type: ignore[arg-type]
            dilation=along(layer.dilation, 1),  # type: ignore[arg-type]
            bias=last and layer.bias is not None,
        )


def axes(layer: nn.Conv2d | nn.Conv3d, method: Method) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which axes of the kernel the first and the second layer of "channel" or "spatial" have."""
    every = tuple(range(len(layer.kernel_size)))
    if method == "channel":
        return every, ()
    return ((0,), (1,)) if isinstance(layer, nn.Conv2d) else ((1, 2), (0,))


def full_ranks(layer: Factorable, method: Method) -> tuple[int, ...]:
    """The ranks at which nothing is lost, whatever the weight."""
    inputs, outputs = layer.weight.shape[1], layer.weight.shape[0]
    if isinstance(layer, nn.Linear):
        return (min(inputs, outputs),)
    size = layer.weight[0, 0].numel()
    if method == "tucker":
        return min(outputs, inputs * size), min(inputs, outputs * size)
    first, _ = axes(layer, method)
    in_first = int(torch.tensor([layer.kernel_size[axis] for axis in first]).prod())
    return (min(inputs * in_first, outputs * size // in_first),)


def refusal(layer: nn.Module) -> str | None:
    """Why a layer has no form of low rank here, in a few words; None if it has one."""
    if not isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
        return f"{type(layer).__name__} is neither a convolution nor linear"
    if isinstance(layer, nn.Linear):
        return None
    if layer.groups > 1:
        return "its channels are in groups"
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return "it pads by other than a number of zeros"
    return None
