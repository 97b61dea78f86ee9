"""How a network departs from what its constructor builds: plans that compression records and a checkpoint carries.

A plan is plain values (JSON, YAML, `weights_only`), and names layers by their path: ``{"kind": "prune", "layers": {"backbone.net.stem.0":
{"out_channels": 12}}}`` gives sizes, ``{"kind": "factorise", "layers": {"fc": {"method": "channel", "ranks": [4]}}}`` says what a layer is
replaced by. Plans are applied in order to a fresh network, and weights are loaded after.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vidkd.base.errors import CheckpointError
from vidkd.models.low_rank import low_rank

Plan = dict[str, Any]

_CONVOLUTION, _LINEAR, _NORM = ("out_channels", "in_channels", "groups"), ("out_features", "in_features"), ("num_features",)


def sizes_of(module: nn.Module) -> dict[str, int]:
    """The sizes of a layer that pruning may change; empty for any other module."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        names: tuple[str, ...] = _CONVOLUTION
    elif isinstance(module, nn.Linear):
        names = _LINEAR
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        names = _NORM
    else:
        names = ()
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
    for plan in plans:
        if not isinstance(plan, Mapping) or not isinstance(plan.get("layers"), Mapping):
            raise CheckpointError("a plan of compression names no layers", found=textwrap.shorten(repr(plan), 80))
        kind = str(plan.get("kind"))
        if kind not in _KINDS:
            raise CheckpointError("a plan of compression of unknown kind", found=kind, known=", ".join(_KINDS), hint="update vidkd")
        for name, entry in plan["layers"].items():
            try:
                module = net.get_submodule(name)
                replacement = _KINDS[kind](module, entry)
                if replacement is not module:
                    replace_module(net, name, replacement)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise CheckpointError(f"the plan of compression does not fit the network at '{name}'", reason=error) from error
        _declare_stages(net, plan.get("stages", {}))
        recorded: Any = net
        if hasattr(recorded, "changes"):
            recorded.changes = (*recorded.changes, dict(plan))


def _declare_stages(net: nn.Module, stages: Mapping[str, int]) -> None:
    """Tell a classifier or backbone how many channels its stages have now."""
    if stages:
        try:
            net.declare_channels({name: int(count) for name, count in stages.items()})  # type: ignore[operator]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError("the plan of compression does not fit the stages of the network", stages=stages) from error


def _resized(module: nn.Module, sizes: Mapping[str, int]) -> nn.Module:
    own = sizes_of(module)
    for size, number in sizes.items():
        if size not in own or type(number) is not int or not 1 <= number <= own[size]:
            raise ValueError(f"{size}={number!r} for a {type(module).__name__} with {own}")
    new = {**own, **sizes}
    for tensor_name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if tensor.ndim == 0:
            continue
        wide = next(iter(new.values()))  # the outputs, or the features
        shape = [wide, *tensor.shape[1:]]
        if tensor.ndim > 1:
            shape[1] = new["in_channels"] // new["groups"] if "groups" in new else new["in_features"]
        _replace_tensor(module, tensor_name, _zeros(tensor, shape))
    for size, number in sizes.items():
        setattr(module, size, number)
    return module


def _zeros(like: Tensor, shape: list[int]) -> Tensor:
    """Zeros in the type, place and memory layout of another tensor."""
    zeros = like.detach().new_zeros(shape)
    for layout, ndim in ((torch.channels_last_3d, 5), (torch.channels_last, 4)):
        if like.ndim == ndim and not like.is_contiguous() and like.is_contiguous(memory_format=layout):
            return zeros.contiguous(memory_format=layout)
    return zeros


def _replace_tensor(module: nn.Module, name: str, value: Tensor) -> None:
    old = getattr(module, name)
    setattr(module, name, nn.Parameter(value, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else value)


def _factorised(module: nn.Module, entry: Mapping[str, Any]) -> nn.Module:
    return low_rank(module, entry["method"], entry["ranks"])  # type: ignore[arg-type]  # which refuses others


def replace_module(net: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the submodule `name`. Raises ValueError for "", which has no place."""
    if not name:
        raise ValueError("the network itself cannot be replaced")
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module)


_KINDS: Mapping[str, Callable[[nn.Module, Mapping[str, Any]], nn.Module]] = {
    "prune": _resized,
    "factorise": _factorised,
}
