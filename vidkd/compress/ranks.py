"""Which rank a layer gets: by energy, by ratio, or by the best use of a budget of MACs over all layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.compress.decompose import Decomposition

STATES = 2048
"""Partial choices that are kept while a budget is shared out; fewer arise in a small network, and the result is exact."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """MACs of the layers that stand for one: `one` times the rank, or with two ranks (r, s): first * s + core * r * s + last * r."""

    one: int = 0
    first: int = 0
    core: int = 0
    last: int = 0

    def of(self, ranks: Sequence[int]) -> int:
        """For (r,) or (r, s)."""
        if len(ranks) == 1:
            return self.one * ranks[0]
        wide, narrow = ranks
        return self.first * narrow + self.core * wide * narrow + self.last * wide


@dataclass(frozen=True)
class Choice:
    """One way to factorise a layer. kept: share of its squared weight."""

    decomposition: Decomposition
    ranks: tuple[int, ...]
    macs: int
    kept: float


def by_energy(decomposition: Decomposition, costs: Costs, energy: float) -> Choice:
    """The least rank that keeps at least this share of the squared singular values, of each mode."""
    return _choice(decomposition, costs, decomposition.ranks_keeping(energy))


def by_ratio(decomposition: Decomposition, costs: Costs, ratio: float) -> Choice:
    """The full rank of each mode times `ratio`, rounded up."""
    return _choice(decomposition, costs, tuple(math.ceil(ratio * full - 1e-9) for full in decomposition.full))


def choices_below(decomposition: Decomposition, costs: Costs, macs: int) -> list[Choice]:
    """All ranks worth trying that take fewer MACs than the layer does as it is."""
    return [_choice(decomposition, costs, ranks) for ranks in decomposition.ranks_worth_trying() if costs.of(ranks) < macs]


def _choice(decomposition: Decomposition, costs: Costs, ranks: tuple[int, ...]) -> Choice:
    return Choice(decomposition, ranks, costs.of(ranks), decomposition.kept_at(ranks))


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
