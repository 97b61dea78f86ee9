import itertools
import math

import pytest
import torch
from torch import nn

from vidkd.base.errors import ConfigError
from vidkd.compress import decompose as ranks_module
from vidkd.compress.decompose import Choice, Cost, Decomposition, decompose, within_budget


def layer_of(values: list[float]) -> nn.Linear:
    """A linear layer whose singular values are given."""
    layer = nn.Linear(len(values), len(values), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor(values)))
    return layer


def choices_below(found: Decomposition, cost: Cost, macs: int) -> list[Choice]:
    return [choice for ranks in found.ranks_worth_trying() if (choice := Choice.at(found, cost, ranks)).macs < macs]


def test_energy_takes_the_least_rank_that_reaches_it() -> None:
    found = decompose(layer_of([4.0, 2.0, 2.0, 1.0]), "channel")  # squares 16, 4, 4, 1 of 25
    for energy, rank in ((0.5, 1), (16 / 25, 1), (0.65, 2), (20 / 25, 2), (0.9, 3), (0.96, 3), (0.961, 4), (1.0, 4)):
        assert found.ranks_keeping(energy) == (rank,), energy
    assert found.kept_at((3,)) == pytest.approx(24 / 25)


def problem(seed: int, layers: int = 4) -> list[tuple[int, list[Choice]]]:
    """Layers of random spectra and sizes, few enough ranks for every combination to be tried."""
    noise = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(layers):
        size = int(torch.randint(3, 7, (), generator=noise))
        found = decompose(layer_of(torch.rand(size, generator=noise).sort(descending=True).values.tolist()), "channel")
        per_rank = int(torch.randint(5, 40, (), generator=noise))
        made.append((per_rank * (size - 1), choices_below(found, lambda ranks, each=per_rank: each * ranks[0], per_rank * (size + 1))))
    return made


def best_of_all(layers: list[tuple[int, list[Choice]]], budget: int) -> float:
    """The largest product of kept energies within the budget, by trying every combination."""
    options = [[(macs, 1.0), *((choice.macs, choice.kept) for choice in choices)] for macs, choices in layers]
    fitting = (each for each in itertools.product(*options) if sum(macs for macs, _ in each) <= budget)
    return max(math.prod(kept for _, kept in each) for each in fitting)


def taken(layers: list[tuple[int, list[Choice]]], choices: list[Choice | None]) -> tuple[int, float]:
    macs = sum(whole if choice is None else choice.macs for (whole, _), choice in zip(layers, choices, strict=True))
    return macs, math.prod(1.0 if choice is None else choice.kept for choice in choices)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.35, 0.5, 0.8, 0.99])
def test_a_budget_is_used_as_well_as_any_combination_could(seed: int, share: float) -> None:
    layers = problem(seed)
    budget = math.floor(share * sum(macs for macs, _ in layers))
    macs, kept = taken(layers, within_budget(layers, budget))
    assert macs <= budget
    assert kept == pytest.approx(best_of_all(layers, budget), rel=1e-9)


def test_with_few_states_the_budget_still_holds_and_little_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, states = problem(7, layers=5), 50
    budget = sum(macs for macs, _ in layers) // 2
    monkeypatch.setattr(ranks_module, "STATES", states)
    macs, kept = taken(layers, within_budget(layers, budget))
    assert macs <= budget
    assert best_of_all(layers, budget) >= kept * (1 - 1e-9)
    assert kept >= best_of_all(layers, math.floor(budget * (1 - len(layers) / states))) * (1 - 1e-9)


def test_a_budget_that_holds_everything_changes_nothing_and_none_that_is_too_small_is_met() -> None:
    layers = problem(0)
    assert within_budget(layers, sum(macs for macs, _ in layers)) == [None] * len(layers)
    least = sum(min(macs, *(choice.macs for choice in choices)) for macs, choices in layers)
    assert taken(layers, within_budget(layers, least))[0] == least
    with pytest.raises(ConfigError, match=f"at least {least}"):
        within_budget(layers, least - 1)
