"""Low rank: convolutions and linear layers replaced by two or three smaller ones whose product is near their weight.

Truncated singular values and truncated higher-order singular values, computed in float64. "channel" and "spatial" are the best of their
rank: the squared error is the sum of the squared singular values left out (Eckart and Young 1936). "tucker" is the truncated HOSVD (De
Lathauwer et al. 2000): its squared error is at most twice the least. Ranks follow from an energy or a budget of MACs.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.compress.compressed import METHODS_OF_CFG, Compressed, Net, checked_outputs, described
from vidkd.compress.graph import matched
from vidkd.compress.recipe import FactoriseConfig
from vidkd.models.changes import METHODS, Factorable, LowRank, Method, apply_changes, axes, refusal
from vidkd.models.darknet import Darknet
from vidkd.models.macs import NetworkCost, network_cost

_NEARLY = 1e-12


@dataclass(frozen=True)
class Decomposition:
    """A weight taken apart into orthogonal factors, of which the first of each are kept.

    kept: share of the squared weight that is kept, over the rank, or over both ranks (outputs, inputs) for "tucker"; entry 0 is rank 1.
    modes: what each rank would keep if the others were full, one tensor a rank. parts: orthogonal factors (and the core), for `weights`.
    """

    method: Method
    kept: Tensor
    modes: tuple[Tensor, ...]
    parts: tuple[Tensor, ...]
    kernel: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]

    @property
    def full(self) -> tuple[int, ...]:
        """As many as there are singular values of each mode."""
        return tuple(len(mode) for mode in self.modes)

    def kept_at(self, ranks: Sequence[int]) -> float:
        """Share of the squared weight that is kept."""
        return float(self.kept[tuple(rank - 1 for rank in ranks)])

    def ranks_keeping(self, energy: float) -> tuple[int, ...]:
        """Of each mode the least."""
        return tuple(min(int((mode < energy - _NEARLY).sum()) + 1, len(mode)) for mode in self.modes)

    def ranks_worth_trying(self) -> list[tuple[int, ...]]:
        """All. With two, the pairs at which both modes keep equally much: of each energy that occurs, the least ranks that reach it."""
        energies = sorted({energy for mode in self.modes for energy in mode.tolist()})
        return list(dict.fromkeys(self.ranks_keeping(energy) for energy in energies))

    def weights(self, ranks: Sequence[int]) -> list[Tensor]:
        """The weights of the layers of `low_rank`, in order, in float64."""
        if self.method == "tucker":
            outputs, inputs, core = self.parts
            ones = (1,) * len(self.kernel)
            wide, narrow = ranks
            return [
                inputs[:, :narrow].T.reshape(narrow, -1, *ones),
                core[:wide, :narrow].reshape(wide, narrow, *self.kernel),
                outputs[:, :wide].reshape(-1, wide, *ones),
            ]
        left, right = self.parts
        (rank,) = ranks
        first, second = (
            tuple(size if axis in along else 1 for axis, size in enumerate(self.kernel)) for along in (self.first, self.second)
        )
        kept = [self.kernel[axis] for axis in self.second]
        return [
            left[:, :rank].T.reshape(rank, -1, *first),
            right[:rank].T.reshape(-1, *kept, rank).movedim(-1, 1).reshape(-1, rank, *second),
        ]


def decompose(layer: Factorable, method: Method) -> Decomposition:
    """Take the weight of a layer apart. A linear layer is taken apart as "channel", whatever the method."""
    weight = layer.weight.detach().to("cpu", torch.float64)
    kernel = tuple(weight.shape[2:])
    if not kernel:
        return _matrix(weight, "channel", (), ())
    if method == "tucker":
        return _tucker(weight)
    first, second = axes(layer, method)  # type: ignore[arg-type]  # has a kernel, so is a convolution
    return _matrix(weight, method, first, second)


def fill(layers: LowRank, decomposition: Decomposition, ranks: Sequence[int], bias: Tensor | None) -> None:
    """Give the layers that `low_rank` made their weights, and the last one the bias of the layer that they stand for."""
    with torch.no_grad():
        for part, weight in zip(layers, decomposition.weights(ranks), strict=True):
            part.get_parameter("weight").copy_(weight)
        if bias is not None:
            layers[-1].get_parameter("bias").copy_(bias)


def _matrix(weight: Tensor, method: Method, first: tuple[int, ...], second: tuple[int, ...]) -> Decomposition:
    """Inputs and the first layer's part of the kernel against outputs and the second's."""
    order = (1, *(2 + axis for axis in first), 0, *(2 + axis for axis in second))
    matrix = weight.permute(order).flatten(0, len(first)).flatten(1)
    if len(matrix) <= matrix.shape[1]:
        left, squares = _basis(matrix)
        right = left.T @ matrix
    else:
        basis, squares = _basis(matrix.T)
        left, right = matrix @ basis, basis.T
    scale = (right.norm(dim=1) / left.norm(dim=0)).sqrt()  # both layers get half of it, so that they learn alike
    scale = torch.where(torch.isfinite(scale) & (scale > 0), scale, 1)
    kept = _shares(squares)
    return Decomposition(method, kept, (kept,), (left * scale, right / scale[:, None]), tuple(weight.shape[2:]), first, second)


def _tucker(weight: Tensor) -> Decomposition:
    outputs, of_outputs = _basis(weight.flatten(1))
    inputs, of_inputs = _basis(weight.transpose(0, 1).flatten(1))
    core = torch.einsum("oik,or,is->rsk", weight.flatten(2), outputs, inputs)
    squares = core.square().sum(2).cumsum(0).cumsum(1)
    kept = squares / squares[-1, -1] if squares[-1, -1] > 0 else torch.ones_like(squares)
    modes = (_shares(of_outputs), _shares(of_inputs))
    return Decomposition("tucker", kept, modes, (outputs, inputs, core), tuple(weight.shape[2:]), (), ())


def _basis(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors (m, min(m, n)) of a matrix (m, n) and the squares of its singular values, largest first.

    From the eigenvectors of the m x m product with its transpose, several times faster than singular values of a wide matrix. They are
    orthogonal to rounding, so projections onto all of them are exact; values below 1e-8 of the largest count as equal.
    """
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T)
    count = min(matrix.shape)
    return vectors.flip(1)[:, :count], squares.flip(0)[:count].clamp(min=0)


def _shares(squares: Tensor) -> Tensor:
    """Running sum as a share of the whole; all ones for a weight of zeros, which any rank keeps."""
    sums = squares.cumsum(0)
    return sums / sums[-1] if sums[-1] > 0 else torch.ones_like(sums)


# Partial choices that are kept while a budget is shared out; fewer arise in a small network, and the result is exact.
STATES = 2048
# MACs of the layers that stand for one, by rank: (r,) or (r, s).
Cost = Callable[[Sequence[int]], int]


@dataclass(frozen=True)
class Choice:
    """One way to factorise a layer. kept: share of its squared weight."""

    decomposition: Decomposition
    ranks: tuple[int, ...]
    macs: int
    kept: float

    @classmethod
    def at(cls, decomposition: Decomposition, cost: Cost, ranks: tuple[int, ...]) -> "Choice":
        """At these ranks."""
        return cls(decomposition, ranks, cost(ranks), decomposition.kept_at(ranks))


def within_budget(layers: Sequence[tuple[int, Sequence[Choice]]], budget: int) -> list[Choice | None]:
    """For each layer, given as its MACs and its choices, the one to take, None to leave it: the largest product of kept energies that fits.

    Objective: Zhang et al. 2016 (arXiv 1505.06798, section 3.3), who share out ranks greedily; here by dynamic programming over all partial
    choices that no other one beats in both MACs and energy. Above `STATES` of these it keeps the best of each small interval of MACs; the
    budget is then still kept, and the result is at least as good as the best one for a budget smaller by the share layers / STATES.
    Raises ConfigError if the least of all layers exceeds the budget.
    """
    tables = [_table(macs, choices) for macs, choices in layers]
    least = [int(costs.min()) for costs, _, _ in tables]
    if sum(least) > budget:
        raise ConfigError(f"the layers take at least {sum(least):,} MACs, the budget leaves them {budget:,}", hint="a larger share of MACs")
    costs, losses = np.zeros(1, np.int64), np.zeros(1)
    walked: list[NDArray[np.int64]] = []
    for number, (own_costs, own_losses, _) in enumerate(tables):
        room = budget - sum(least[number + 1 :])
        total = (costs[:, None] + own_costs).ravel()
        loss = (losses[:, None] + own_losses).ravel()
        kept = _unbeaten(total, loss, room)
        walked.append(kept)
        costs, losses = total[kept], loss[kept]
    state, taken = int(np.argmin(losses)), []
    for kept, (own_costs, _, own) in zip(reversed(walked), reversed(tables), strict=True):
        state, option = divmod(int(kept[state]), len(own_costs))
        taken.append(own[option])
    return taken[::-1]


def _table(macs: int, choices: Sequence[Choice]) -> tuple[NDArray[np.int64], NDArray[np.float64], list[Choice | None]]:
    """MACs and losses (minus log of the energy kept) of leaving a layer and of its choices that are cheaper and that no other one beats."""
    own: list[Choice | None] = [None, *(each for each in choices if each.macs < macs and each.kept > 0)]
    costs = np.array([macs if each is None else each.macs for each in own], np.int64)
    losses = np.array([0.0 if each is None else -math.log(min(each.kept, 1.0)) for each in own])
    kept = _unbeaten(costs, losses, macs)
    return costs[kept], losses[kept], [own[index] for index in kept]


def _unbeaten(costs: NDArray[np.int64], losses: NDArray[np.float64], room: int) -> NDArray[np.int64]:
    """Indices by rising cost and falling loss of what costs at most `room` and is beaten by nothing cheaper; at most about STATES."""
    order = np.lexsort((losses, costs))
    order = order[costs[order] <= room]
    lowest = np.minimum.accumulate(losses[order])
    first = np.r_[True, losses[order][1:] < lowest[:-1]]
    order = order[first]
    if len(order) > STATES:
        interval = costs[order] * STATES // (room + 1)
        order = order[np.r_[interval[1:] != interval[:-1], True]]  # the last of an interval loses least
    return order


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
    changed = {name: _in_words(choice, cost.layers[name]) for name, choice in taken.items()}
    return Compressed(model=made.eval(), plan=plan, layers=changed, left=left)


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
