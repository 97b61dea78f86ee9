import itertools
import json
import math
from pathlib import Path

import pytest
import tensorly
import torch
from tensorly.decomposition import partial_tucker
from torch import nn

from vidkd.base.errors import ConfigError
from vidkd.compress import factorise as ranks_module
from vidkd.compress.factorise import Choice, Cost, Decomposition, decompose, factorise, fill, macs_of, within_budget
from vidkd.compress.prune import prune
from vidkd.compress.recipe import FactoriseConfig, PruneConfig
from vidkd.models import BACKBONES, AttentionConfig, ModelConfig, VideoClassifier
from vidkd.models.changes import METHODS, Method, low_rank, refusal
from vidkd.models.macs import network_cost
from vidkd.models.saved import classifier_payload, load_classifier


def classifier(name: str = "tiny3d") -> VideoClassifier:
    torch.manual_seed(0)
    attention = AttentionConfig(pooling="probabilistic", maps="two")
    return VideoClassifier(ModelConfig(backbone=name, attention=attention), 4, "rgb").eval()


def clip(name: str = "tiny3d", size: int = 32) -> torch.Tensor:
    return torch.rand(1, 3, 16 if name == "s3d" else 8, size, size, generator=torch.Generator().manual_seed(1))


def macs(net: nn.Module, example: torch.Tensor) -> int:
    return network_cost(net, example).macs


class Redundant(nn.Module):
    """Convolutions of exactly rank 2, but for the last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 2, 1)
        self.double()
        with torch.no_grad():
            for layer in (self.first, self.second):
                flat = layer.weight.flatten(1)
                layer.weight.copy_((torch.randn(12, 2).double() @ torch.randn(2, flat.shape[1]).double()).view_as(layer.weight))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.first(images).relu()).relu())


def test_what_is_redundant_goes_without_loss_and_what_would_be_slower_stays() -> None:
    net, images = Redundant(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    done = factorise(net, images, FactoriseConfig(energy=1.0))
    assert set(done.layers) == {"first", "second"}
    assert done.layers["second"].startswith("channel, rank 2 of 12")
    # rank 2 of 2 outputs: 12 * 2 + 2 * 2 for 12 * 2 at each of 128 positions
    assert done.left == {"last": "it would take no fewer MACs: 3,072 -> 3,584"}
    torch.testing.assert_close(done.model(images), net(images), rtol=1e-10, atol=1e-10)
    positions = 2 * 8 * 8
    assert macs(done.model, images) == positions * (2 * (27 + 12) + 2 * (108 + 12) + 24)


@pytest.mark.parametrize("method", ["channel", "spatial", "tucker", "any"])
def test_a_budget_of_macs_is_met_and_a_checkpoint_brings_the_layers_back(method: str, tmp_path: Path) -> None:
    model, example = classifier(), clip()
    done = factorise(model, example, FactoriseConfig(method=method, macs=0.5))  # type: ignore[arg-type]
    assert 0.45 < macs(done.model, example) / macs(model, example) <= 0.5
    assert json.loads(json.dumps(done.plan)) == done.plan
    torch.save({"student": classifier_payload(done.model, list("abcd"))}, tmp_path / "model.pt")
    saved = load_classifier(tmp_path / "model.pt").model
    with torch.no_grad():
        assert torch.equal(saved(example).logits, done.model(example).logits)
        assert not torch.equal(done.model(example).logits, model(example).logits)
    assert saved.changes == (done.plan,)
    assert model.changes == ()


SMALL = ("mobilenet_v3_small", "tiny3d", "x3d_xs")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in sorted(BACKBONES)])
def test_every_backbone_is_factorised(name: str) -> None:
    model, example = classifier(name), clip(name)
    done = factorise(model, example, FactoriseConfig(energy=0.5))
    assert macs(done.model, example) < macs(model, example)
    assert done.layers
    with torch.no_grad():
        assert done.model(example).logits.shape == (1, 4)


def test_layers_whose_weight_is_read_past_them_are_left_alone() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.last = layer, nn.Linear(8, 8)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.last(self.attention(tokens, tokens, tokens)[0])

    done = factorise(Attending(), torch.randn(1, 3, 8), FactoriseConfig(energy=0.5))
    assert set(done.layers) == {"last"}
    assert done.left["attention.out_proj"] == "its weight is read by another layer"


def test_steps_compose_in_either_order() -> None:
    example = clip()
    pruned = prune(classifier(), example, PruneConfig(ratio=0.25, scope="uniform"))
    both = factorise(pruned.model, example, FactoriseConfig(macs=0.5))
    again = prune(both.model, example, PruneConfig(ratio=0.25, scope="uniform"))
    assert [plan["kind"] for plan in again.model.changes] == ["prune", "factorise", "prune"]
    assert macs(pruned.model, example) > macs(both.model, example) > macs(again.model, example)
    with torch.no_grad():
        assert again.model(example).logits.shape == (1, 4)
    with pytest.raises(ConfigError, match="cheaper"):
        factorise(both.model, example, FactoriseConfig(energy=1.0, exclude=("fc", "pooling.*")))


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv2d": (nn.Conv2d(5, 7, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 5, 9, 8)),
    "conv3d": (nn.Conv3d(4, 6, (3, 3, 2), stride=(2, 1, 2), padding=(1, 1, 0), bias=False), (2, 4, 5, 6, 7)),
    "time alone": (nn.Conv3d(4, 3, (3, 1, 1), padding=(1, 0, 0)), (1, 4, 5, 3, 3)),
    "pointwise": (nn.Conv2d(6, 4, 1), (1, 6, 3, 3)),
    "linear": (nn.Linear(6, 9), (2, 3, 6)),
}
CASES = [(name, method) for name in LAYERS for method in METHODS if name != "linear" or method == "channel"]


def replaced(layer: nn.Module, method: Method, ranks: tuple[int, ...]) -> nn.Module:
    made = low_rank(layer, method, ranks)  # type: ignore[arg-type]
    fill(made, decompose(layer, method), ranks, layer.bias)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(("name", "method"), CASES)
def test_full_rank_is_exact(name: str, method: Method) -> None:
    torch.manual_seed(0)
    layer, shape = LAYERS[name]
    layer = layer.double()
    values = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(replaced(layer, method, decompose(layer, method).full)(values), layer(values), rtol=1e-10, atol=1e-10)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_costs_are_those_of_the_layers_that_are_built(name: str, method: Method) -> None:
    layer, shape = LAYERS[name]
    layer, values = layer.float(), torch.randn(shape)
    ranks = tuple(max(1, full // 2) for full in decompose(layer, method).full)  # type: ignore[arg-type]
    macs = macs_of(layer, method, [(values.shape, layer(values).shape)] * 2, ranks)  # type: ignore[arg-type]
    assert macs == 2 * network_cost(replaced(layer, method, ranks), values).macs


@pytest.mark.parametrize(("name", "method"), [case for case in CASES if case[1] in ("channel", "spatial")])
def test_the_error_is_the_tail_of_the_singular_values(name: str, method: Method) -> None:
    layer, _ = LAYERS[name]
    layer = layer.double()
    found = decompose(layer, method)  # type: ignore[arg-type]
    for rank in range(1, len(found.kept) + 1):
        first, second = found.weights((rank,))
        error = (product(first, second) - layer.weight).square().sum() / layer.weight.square().sum()
        assert error.item() == pytest.approx(1 - found.kept[rank - 1].item(), abs=1e-12)
    assert found.kept[-1].item() == pytest.approx(1, abs=1e-12)


def product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The one weight that two layers amount to; kernels are disjoint, so they multiply by broadcasting."""
    return torch.einsum("ri...,ro...->oi...", first, second.transpose(0, 1))


def test_tucker_keeps_what_its_core_holds_and_is_near_the_best() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, 3).double()
    # an energy that falls off, as trained weights have it
    with torch.no_grad():
        layer.weight.mul_(torch.linspace(1, 0.05, 8, dtype=torch.float64).view(-1, 1, 1, 1))
    found = decompose(layer, "tucker")
    tensorly.set_backend("pytorch")
    for ranks in ((1, 1), (3, 2), (5, 6), (8, 6)):
        into, core, out = found.weights(ranks)
        one = torch.einsum("or,rskl,si->oikl", out.flatten(1), core, into.flatten(1))
        error = (one - layer.weight).square().sum() / layer.weight.square().sum()
        assert error.item() == pytest.approx(1 - found.kept[ranks[0] - 1, ranks[1] - 1].item(), abs=1e-12)
        ((best_core, factors), _) = partial_tucker(layer.weight.detach(), rank=list(ranks), modes=[0, 1], init="svd", n_iter_max=100)
        best = torch.einsum("or,rskl,is->oikl", factors[0], best_core, factors[1])
        least = (best - layer.weight).square().sum() / layer.weight.square().sum()
        assert least - 1e-12 <= error <= 2 * least + 1e-12


def test_a_weight_of_zeros_is_kept_by_any_rank() -> None:
    layer = nn.Conv2d(3, 4, 3)
    nn.init.zeros_(layer.weight)
    for method in METHODS:
        found = decompose(layer, method)
        assert all(found.kept_at(ranks) == 1 for ranks in found.ranks_worth_trying())
        assert all(bool(torch.isfinite(part).all()) for part in found.weights((1,) * len(found.full)))


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "groups"),
        (nn.Conv2d(4, 4, 3, padding="same"), "pads"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "pads"),
        (nn.ConvTranspose2d(4, 4, 3), "neither"),
    ],
)
def test_what_has_no_form_of_low_rank_says_why(layer: nn.Module, text: str) -> None:
    reason = refusal(layer)
    assert reason is not None
    assert text in reason


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
