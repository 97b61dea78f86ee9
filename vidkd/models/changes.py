"""How a network departs from what its constructor builds: plans that compression records and a checkpoint carries.

A plan is plain values (JSON, YAML, `weights_only`), and names layers by their path: ``{"kind": "prune", "layers": {"backbone.net.stem.0":
{"out_channels": 12}}}`` gives sizes, ``{"kind": "factorise", "layers": {"fc": {"method": "channel", "ranks": [4]}}}`` says what a layer is
replaced by. Plans are applied in order to a fresh network, and weights are loaded after.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from vidkd.base.errors import CheckpointError
from vidkd.models.low_rank import low_rank


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
                else:
                    replace_module(net, name, low_rank(module, entry["method"], entry["ranks"]))  # type: ignore[arg-type]
            if plan.get("stages"):
                recorded.declare_channels(plan["stages"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError("a plan of compression does not fit the network", reason=f"{type(error).__name__}: {error}") from error
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
