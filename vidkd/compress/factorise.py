"""Low rank: convolutions and linear layers replaced by two or three smaller ones whose product is near their weight."""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.compress.config import FactoriseConfig
from vidkd.compress.darknet import METHODS_OF_CFG, described
from vidkd.compress.decompose import Choice, Costs, Decomposition, by_energy, by_ratio, choices_below, decompose, fill, within_budget
from vidkd.compress.graph import matched
from vidkd.compress.outcome import Compressed, Net, checked_outputs, restore_modes
from vidkd.models.changes import apply_changes
from vidkd.models.darknet import Darknet
from vidkd.models.low_rank import METHODS, Factorable, LowRank, Method, axes, refusal
from vidkd.models.macs import NetworkCost, network_cost

Ways = list[tuple[Decomposition, Costs]]
Calls = list[tuple[torch.Size, torch.Size]]
"""Shapes of input and output of each call of a layer."""


def factorise(net: Net, example: Tensor, config: FactoriseConfig) -> Compressed[Net]:
    """Factorise the layers of a `VideoClassifier` (example: a raw clip), a `Darknet` (images) or another network (its input).

    Layers that would take no fewer MACs at their rank are left alone, and said to be.
    A darknet is given new sections, so the numbers of its layers change. Raises ConfigError if no layer becomes cheaper, the budget cannot
    be met, or a darknet is to be parted in space.
    """
    cost = network_cost(net, example)
    left = _reasons(net, cost, config)
    layers = {name: cast(Factorable, net.get_submodule(name)) for name in cost.layers if name not in left}
    seen = _sizes_seen(net, layers, example)
    ways = {name: _ways(layer, seen[name], methods_of(net, config)) for name, layer in layers.items()}
    taken, dear = _cheaper(_chosen(ways, cost, config), cost)
    left |= dear
    if not taken:
        raise ConfigError("no layer becomes cheaper", **{name: left[name] for name in list(left)[:4]}, hint="a lower energy, ratio or macs")
    made, plan = _made(net, taken, config)
    checked_outputs(copy.deepcopy(made), example, copy.deepcopy(net))
    restore_modes(made, net)
    return Compressed(
        model=made,
        plan=plan,
        layers={name: _told(choice, cost.layers[name]) for name, choice in taken.items()},
        left=left,
        before=cost,
        after=network_cost(made, example),
    )


def _cheaper(chosen: Mapping[str, Choice | None], cost: NetworkCost) -> tuple[dict[str, Choice], dict[str, str]]:
    """What is taken of the choices, and why the others are not."""
    taken: dict[str, Choice] = {}
    left: dict[str, str] = {}
    for name, choice in chosen.items():
        if choice is None:
            left[name] = "no rank was worth it"
        elif choice.macs >= cost.layers[name]:
            left[name] = f"it would take no fewer MACs: {cost.layers[name]:,} -> {choice.macs:,}"
        else:
            taken[name] = choice
    return taken, left


def _told(choice: Choice, macs: int) -> str:
    ranks = " and ".join(f"{rank} of {full}" for rank, full in zip(choice.ranks, choice.decomposition.full, strict=True))
    return f"{choice.decomposition.method}, rank {ranks}: {macs:,} -> {choice.macs:,} MACs, {choice.kept:.4f} of the energy"


def _reasons(net: nn.Module, cost: NetworkCost, config: FactoriseConfig) -> dict[str, str]:
    """Layers that cannot or shall not be factorised, each with the reason."""
    factors = {
        f"{name}.{part}" for name, module in net.named_modules() if isinstance(module, LowRank) for part, _ in module.named_children()
    }
    added = _of_added_heads(net) if isinstance(net, Darknet) else frozenset()
    reasons: dict[str, str] = {}
    layers = [name for name, module in net.named_modules() if name in cost.layers or isinstance(module, Factorable)]
    excluded = matched(config.exclude, layers, every=(name for name, _ in net.named_modules() if name))
    for name in layers:
        found = refusal(net.get_submodule(name))
        if name in excluded:
            found = "exclude"
        elif name in factors:
            found = "it is a factor already"
        elif name in added:
            found = "it belongs to an added head"
        elif name not in cost.layers:
            found = "its weight is read by another layer"
        elif not name:
            found = "it is the network itself"
        if found is not None:
            reasons[name] = found
    return reasons


def _of_added_heads(net: Darknet) -> frozenset[str]:
    """Convolutions by which an added head is known; in factors it would be none."""
    return frozenset(f"layers.{place}.conv" for head in net.heads if head.added is not None for place in (head.added, head.layer - 1))


def methods_of(net: nn.Module, config: FactoriseConfig) -> tuple[Method, ...]:
    """The methods among which each layer has a choice. Raises ConfigError for one that a darknet cannot have."""
    known = METHODS_OF_CFG if isinstance(net, Darknet) else METHODS
    if config.method == "any":
        return known
    if config.method not in known:
        raise ConfigError(
            f"a darknet has square kernels only, so method '{config.method}' has no cfg",
            known=", ".join(known),
            hint=f"method: {', '.join(known)} or any",
        )
    return (config.method,)


def _sizes_seen(net: nn.Module, layers: Mapping[str, nn.Module], example: Tensor) -> dict[str, Calls]:
    """Shapes of input and output of every call of each layer."""
    seen: dict[str, Calls] = {name: [] for name in layers}
    hooks = [layer.register_forward_hook(_noting(seen[name])) for name, layer in layers.items()]
    try:
        network_cost(net, example)  # a pass without gradients, in eval mode
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _noting(calls: Calls) -> Callable[[nn.Module, Any, Any], None]:
    return lambda _module, inputs, output: calls.append((inputs[0].shape, output.shape))


def _ways(layer: Factorable, calls: Calls, methods: tuple[Method, ...]) -> Ways:
    if isinstance(layer, nn.Linear):
        methods = ("channel",)
    return [(decompose(layer, method), costs_of(layer, method, calls)) for method in methods]


def costs_of(layer: Factorable, method: Method, calls: Calls) -> Costs:
    """MACs by rank. calls: shapes of input and output of each call of the layer, with batch and channels (features last if linear)."""
    outputs, inputs, *kernel = layer.weight.shape
    if isinstance(layer, nn.Linear):
        return Costs(one=sum(math.prod(given[:-1]) for given, _ in calls) * (inputs + outputs))
    before, after = (sum(shape[0] * math.prod(shape[2:]) for shape in shapes) for shapes in zip(*calls, strict=True))
    if method == "tucker":
        return Costs(first=before * inputs, core=after * math.prod(kernel), last=after * outputs)
    first, second = axes(layer, method)
    between = sum(
        given[0] * math.prod(put[2 + axis] if axis in first else given[2 + axis] for axis in range(len(kernel))) for given, put in calls
    )
    return Costs(
        one=between * inputs * math.prod(kernel[axis] for axis in first) + after * outputs * math.prod(kernel[axis] for axis in second)
    )


def _chosen(ways: Mapping[str, Ways], cost: NetworkCost, config: FactoriseConfig) -> dict[str, Choice | None]:
    if config.macs is None:
        return {name: min((_ruled(*way, config) for way in each), key=lambda choice: choice.macs) for name, each in ways.items()}
    fixed = cost.macs - sum(cost.layers[name] for name in ways)
    budget = math.floor(config.macs * cost.macs) - fixed
    macs = {name: cost.layers[name] for name in ways}
    layers = [(macs[name], [choice for way in each for choice in choices_below(*way, macs[name])]) for name, each in ways.items()]
    return dict(zip(ways, within_budget(layers, budget), strict=True))


def _ruled(decomposition: Decomposition, costs: Costs, config: FactoriseConfig) -> Choice:
    if config.energy is not None:
        return by_energy(decomposition, costs, config.energy)
    assert config.ratio is not None
    return by_ratio(decomposition, costs, config.ratio)


def _made(net: Net, chosen: Mapping[str, Choice], config: FactoriseConfig) -> tuple[Net, dict[str, Any]]:
    """The network with its new layers, and the plan."""
    layers = {name: {"method": choice.decomposition.method, "ranks": list(choice.ranks)} for name, choice in chosen.items()}
    plan = {"kind": "factorise", "settings": {**dataclasses.asdict(config), "exclude": list(config.exclude)}, "layers": layers}
    made = copy.deepcopy(net)
    apply_changes(made, [plan])
    for name, choice in chosen.items():
        fill(cast(LowRank, made.get_submodule(name)), choice.decomposition, choice.ranks, net.get_submodule(name).bias)  # type: ignore[arg-type]
    return (cast(Net, described(made)) if isinstance(made, Darknet) else made), plan
