"""Low rank: convolutions and linear layers replaced by two or three smaller ones whose product is near their weight."""

import copy
import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.compress.config import FactoriseConfig
from vidkd.compress.darknet import METHODS_OF_CFG, described
from vidkd.compress.decompose import Choice, Cost, Decomposition, decompose, fill, within_budget
from vidkd.compress.graph import matched
from vidkd.compress.outcome import Compressed, Net, checked_outputs, restore_modes
from vidkd.models.changes import apply_changes
from vidkd.models.darknet import Darknet
from vidkd.models.low_rank import METHODS, Factorable, LowRank, Method, axes, refusal
from vidkd.models.macs import NetworkCost, network_cost

# Shapes of input and output of each call of a layer.
Calls = list[tuple[torch.Size, torch.Size]]
# Each method by which a layer may be parted, and what its ranks cost.
Ways = list[tuple[Decomposition, Cost]]


def factorise(net: Net, example: Tensor, config: FactoriseConfig) -> Compressed[Net]:
    """Factorise the layers of a `VideoClassifier` (example: a raw clip), a `Darknet` (images) or another network (its input).

    Layers that would take no fewer MACs at their rank are left alone, with that as the reason.
    A darknet is given new sections, so the numbers of its layers change. Raises ConfigError if no layer becomes cheaper, the budget cannot
    be met, or a darknet is to be parted in space.
    """
    cost, methods = network_cost(net, example), methods_of(net, config)
    left = _reasons(net, cost, config)
    layers = {name: cast(Factorable, net.get_submodule(name)) for name in cost.layers if name not in left}
    seen = _sizes_seen(net, layers, example)
    ways: dict[str, Ways] = {}
    for name, layer in layers.items():
        of_layer = ("channel",) if isinstance(layer, nn.Linear) else methods
        ways[name] = [(decompose(layer, method), partial(macs_of, layer, method, seen[name])) for method in of_layer]
    taken: dict[str, Choice] = {}
    for name, choice in _chosen(ways, cost, config).items():
        if choice is None:
            left[name] = "no rank was worth it"
        elif choice.macs >= cost.layers[name]:
            left[name] = f"it would take no fewer MACs: {cost.layers[name]:,} -> {choice.macs:,}"
        else:
            taken[name] = choice
    if not taken:
        raise ConfigError("no layer becomes cheaper", **{name: left[name] for name in list(left)[:4]}, hint="a lower energy or macs")
    plan = {
        "kind": "factorise",
        "settings": {**dataclasses.asdict(config), "exclude": list(config.exclude)},
        "layers": {name: {"method": choice.decomposition.method, "ranks": list(choice.ranks)} for name, choice in taken.items()},
    }
    made = copy.deepcopy(net)
    apply_changes(made, [plan])
    for name, choice in taken.items():
        fill(cast(LowRank, made.get_submodule(name)), choice.decomposition, choice.ranks, layers[name].bias)
    if isinstance(made, Darknet):
        made = cast(Net, described(made))
    checked_outputs(copy.deepcopy(made), example, copy.deepcopy(net))
    restore_modes(made, net)
    changed = {name: _in_words(choice, cost.layers[name]) for name, choice in taken.items()}
    return Compressed(model=made, plan=plan, layers=changed, left=left, before=cost, after=network_cost(made, example))


def _in_words(choice: Choice, macs: int) -> str:
    ranks = " and ".join(f"{rank} of {full}" for rank, full in zip(choice.ranks, choice.decomposition.full, strict=True))
    return f"{choice.decomposition.method}, rank {ranks}: {macs:,} -> {choice.macs:,} MACs, {choice.kept:.4f} of the energy"


def _reasons(net: nn.Module, cost: NetworkCost, config: FactoriseConfig) -> dict[str, str]:
    """Layers that cannot or shall not be factorised, each with the reason."""
    factored = tuple(f"{name}." for name, module in net.named_modules() if isinstance(module, LowRank))
    # convolutions by which an added head is known; in factors it would be none
    heads = [head for head in net.heads if head.added is not None] if isinstance(net, Darknet) else []
    added = {f"layers.{place}.conv" for head in heads for place in (head.added, head.layer - 1)}
    layers = [name for name, module in net.named_modules() if name in cost.layers or isinstance(module, Factorable)]
    excluded = matched(config.exclude, layers, every=(name for name, _ in net.named_modules() if name))
    reasons = {}
    for name in layers:
        checks = {
            "exclude": name in excluded,
            "it is a factor already": name.startswith(factored),
            "it belongs to an added head": name in added,
            "its weight is read by another layer": name not in cost.layers,
            "it is the network itself": not name,
        }
        if reason := next((reason for reason, holds in checks.items() if holds), refusal(net.get_submodule(name))):
            reasons[name] = reason
    return reasons


def methods_of(net: nn.Module, config: FactoriseConfig) -> tuple[Method, ...]:
    """The methods among which each layer has a choice. Raises ConfigError for one that a darknet cannot have."""
    known = METHODS_OF_CFG if isinstance(net, Darknet) else METHODS
    if config.method == "any":
        return known
    if config.method not in known:
        hint = f"method: {', '.join(known)} or any"
        raise ConfigError(f"a darknet has square kernels only, so method '{config.method}' has no cfg", hint=hint)
    return (config.method,)


def _sizes_seen(net: nn.Module, layers: Mapping[str, nn.Module], example: Tensor) -> dict[str, Calls]:
    """Shapes of input and output of every call of each layer."""
    seen: dict[str, Calls] = {name: [] for name in layers}

    def note(calls: Calls, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((inputs[0].shape, output.shape))

    hooks = [layer.register_forward_hook(partial(note, seen[name])) for name, layer in layers.items()]
    network_cost(net, example)  # a pass without gradients, in eval mode
    for hook in hooks:
        hook.remove()
    return seen


def macs_of(layer: Factorable, method: Method, calls: Calls, ranks: tuple[int, ...]) -> int:
    """MACs at these ranks. calls: shapes of input and output of each call, with batch and channels (features last if linear)."""
    outputs, inputs, *kernel = map(int, layer.weight.shape)
    if isinstance(layer, nn.Linear):
        rows: int = sum(math.prod(given[:-1]) for given, _ in calls)
        return rows * (inputs + outputs) * ranks[0]
    before, after = (int(sum(shape[0] * math.prod(shape[2:]) for shape in shapes)) for shapes in zip(*calls, strict=True))
    if method == "tucker":
        wide, narrow = ranks
        return before * inputs * narrow + after * math.prod(kernel) * wide * narrow + after * outputs * wide
    first, second = axes(layer, method)
    between = sum(
        given[0] * math.prod(put[2 + axis] if axis in first else given[2 + axis] for axis in range(len(kernel))) for given, put in calls
    )
    narrowed, widened = (math.prod(kernel[axis] for axis in along) for along in (first, second))
    return (between * inputs * narrowed + after * outputs * widened) * ranks[0]


def _chosen(ways: Mapping[str, Ways], cost: NetworkCost, config: FactoriseConfig) -> dict[str, Choice | None]:
    if config.macs is None:
        energy = cast(float, config.energy)
        kept = {name: [Choice.at(*way, way[0].ranks_keeping(energy)) for way in each] for name, each in ways.items()}
        return {name: min(each, key=lambda choice: choice.macs) for name, each in kept.items()}
    macs = {name: cost.layers[name] for name in ways}
    budget = math.floor(config.macs * cost.macs) - (cost.macs - sum(macs.values()))
    tried = {name: [Choice.at(*way, ranks) for way in each for ranks in way[0].ranks_worth_trying()] for name, each in ways.items()}
    found = within_budget([(macs[name], [choice for choice in tried[name] if choice.macs < macs[name]]) for name in ways], budget)
    return dict(zip(ways, found, strict=True))
