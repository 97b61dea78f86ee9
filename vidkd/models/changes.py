"""How a network departs from what its constructor builds: plans that a checkpoint carries, most of them recorded by compression.

A plan is plain values (JSON, YAML, `weights_only`), and names layers by their path: ``{"kind": "prune", "layers": {"backbone.net.stem.0":
{"out_channels": 12}}}`` gives sizes, ``{"kind": "factorise", "layers": {"fc": {"method": "channel", "ranks": [4]}}}`` says what a layer is
replaced by, and ``{"kind": "nearest", "layers": {"fc": {"counts": [6, 6], "temperature": 0.05}}}`` replaces it by a `NearestExample`. Plans
are applied in order to a fresh network, and weights are loaded after.

Layers of low rank, whose weight is a product of smaller ones, are of these kinds:

- ``channel``: r filters of the layer's own kernel, then a 1x1 convolution to its outputs (Zhang et al. 2016, arXiv 1505.06798). For
  a linear layer two linear ones.
- ``spatial``: the kernel is split between the two. Conv2d: r filters of height kh, then filters of width kw (Jaderberg et al. 2014, arXiv
  1405.3866). Conv3d: r filters in space, then filters in time, as R(2+1)D is built (Tran et al. 2018, arXiv 1711.11248).
- ``tucker``: 1x1 to the second rank, the layer's own kernel between the ranks, 1x1 from the first to the outputs (Kim et al. 2016, arXiv
  1511.06530).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import nn

from vidkd.base.errors import CheckpointError
from vidkd.models.nearest import NearestExample

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


def sizes_of(module: nn.Module) -> dict[str, int]:
    """The sizes of a layer that pruning may change, that of its output first; empty for any other module."""
    names: tuple[str, ...] = ()
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        names = ("out_channels", "in_channels", "groups")
    elif isinstance(module, nn.Linear):
        names = ("out_features", "in_features")
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        names = ("num_features",)
    return {name: int(getattr(module, name)) for name in names}


def differing_sizes(net: nn.Module, smaller: nn.Module) -> dict[str, dict[str, int]]:
    """What a plan of pruning says: for each layer of `smaller` the sizes that differ from those in `net`, which has the same layers."""
    before = {name: sizes_of(module) for name, module in net.named_modules()}
    after = {name: sizes_of(module) for name, module in smaller.named_modules()}
    changed = {name: {size: n for size, n in sizes.items() if before[name][size] != n} for name, sizes in after.items()}
    return {name: sizes for name, sizes in changed.items() if sizes}


def apply_changes(net: nn.Module, plans: Iterable[Mapping[str, Any]]) -> None:
    """Give `net` the sizes and layers that the plans name, in order; what is changed holds zeros until weights are loaded.

    A network with an attribute `changes` (a VideoClassifier) has them added there. Raises CheckpointError for a plan that does not fit.
    """
    recorded: Any = net
    for plan in plans:
        try:
            for name, entry in plan["layers"].items():
                module = net.get_submodule(name)
                if plan["kind"] == "prune":
                    _resize(module, entry)
                elif plan["kind"] == "nearest":
                    replace_module(net, name, NearestExample(module.in_features, **entry).to(module.weight.device))  # type: ignore[arg-type]
                else:
                    replace_module(net, name, low_rank(module, entry["method"], entry["ranks"]))  # type: ignore[arg-type]
            if plan.get("stages"):
                recorded.declare_channels(plan["stages"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError("a plan of changes does not fit the network", reason=f"{type(error).__name__}: {error}") from error
        if hasattr(recorded, "changes"):
            recorded.changes = (*recorded.changes, dict(plan))


def _resize(module: nn.Module, sizes: Mapping[str, int]) -> None:
    for size, number in sizes.items():
        setattr(module, size, number)
    new = sizes_of(module)
    outputs, inputs = next(iter(new.values())), new.get("in_features", 0)
    if "groups" in new:
        inputs = new["in_channels"] // new["groups"]
    for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        if tensor.ndim > 0:
            # zeros_like keeps type, place and memory layout
            value = torch.zeros_like(tensor.detach()[:outputs, :inputs] if tensor.ndim > 1 else tensor.detach()[:outputs])
            setattr(module, name, nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value)


def replace_module(net: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the submodule `name`."""
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module)
