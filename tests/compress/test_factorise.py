import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from vidkd.base.errors import ConfigError
from vidkd.compress.config import FactoriseConfig, PruneConfig
from vidkd.compress.factorise import factorise
from vidkd.compress.prune import prune
from vidkd.models import BACKBONES, AttentionConfig, ModelConfig, VideoClassifier
from vidkd.models.macs import network_cost
from vidkd.models.saved import classifier_payload, load_classifier


def classifier(name: str = "tiny3d") -> VideoClassifier:
    torch.manual_seed(0)
    attention = AttentionConfig(pooling="probabilistic", maps="two")
    return VideoClassifier(ModelConfig(backbone=name, attention=attention), 4, "rgb").eval()


def clip(name: str = "tiny3d", size: int = 32) -> torch.Tensor:
    return torch.rand(1, 3, 16 if name == "s3d" else 8, size, size, generator=torch.Generator().manual_seed(1))


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
    assert done.after.macs == positions * (2 * (27 + 12) + 2 * (108 + 12) + 24)
    assert done.before.macs == network_cost(net, images).macs == positions * (12 * 27 + 12 * 108 + 24)


@pytest.mark.parametrize("method", ["channel", "spatial", "tucker", "any"])
def test_a_budget_of_macs_is_met_and_a_checkpoint_brings_the_layers_back(method: str, tmp_path: Path) -> None:
    model, example = classifier(), clip()
    done = factorise(model, example, FactoriseConfig(method=method, macs=0.5))  # type: ignore[arg-type]
    assert done.after.macs <= 0.5 * done.before.macs
    assert done.after.macs == network_cost(done.model, example).macs >= 0.45 * done.before.macs
    assert json.loads(json.dumps(done.plan)) == done.plan
    torch.save({"student": classifier_payload(done.model, list("abcd"))}, tmp_path / "model.pt")
    saved = load_classifier(tmp_path / "model.pt").model
    with torch.no_grad():
        assert torch.equal(saved(example).logits, done.model(example).logits)
        assert not torch.equal(done.model(example).logits, model(example).logits)
    assert saved.changes == (done.plan,)
    assert model.changes == ()


def test_the_budget_of_a_whole_net_is_used_as_well_as_any_ranks_could() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3, padding=1), nn.Flatten(), nn.Linear(5 * 16, 7))
    images = torch.randn(1, 3, 4, 4)
    done = factorise(net, images, FactoriseConfig(macs=0.6))
    layers = [net[0], net[2], net[4]]
    options = []
    for layer in layers:
        squares = torch.linalg.svdvals(layer.weight.detach().flatten(1).double()).square()
        outputs, inputs = layer.weight.flatten(1).shape
        positions = 16 if layer.weight.ndim == 4 else 1
        ranked = [
            (positions * rank * (inputs + outputs), float(squares[:rank].sum() / squares.sum())) for rank in range(1, len(squares) + 1)
        ]
        options.append([(positions * inputs * outputs, 1.0), *ranked])
    budget = 0.6 * sum(option[0][0] for option in options)
    best = max(math.prod(kept for _, kept in each) for each in itertools.product(*options) if sum(macs for macs, _ in each) <= budget)
    taken = 1.0
    for number, each in zip(("0", "2", "4"), options, strict=True):
        if number in done.layers:
            taken *= each[done.plan["layers"][number]["ranks"][0]][1]
    assert taken == pytest.approx(best, rel=1e-9)
    assert done.after.macs <= budget


SMALL = ("mobilenet_v3_small", "tiny3d", "x3d_xs")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in sorted(BACKBONES)])
def test_every_backbone_is_factorised(name: str) -> None:
    model, example = classifier(name), clip(name)
    done = factorise(model, example, FactoriseConfig(energy=0.5))
    assert done.after.macs < done.before.macs
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
    assert pruned.after.macs > both.after.macs > again.after.macs
    with torch.no_grad():
        assert again.model(example).logits.shape == (1, 4)
    with pytest.raises(ConfigError, match="cheaper"):
        factorise(both.model, example, FactoriseConfig(energy=1.0, exclude=("fc", "pooling.*")))
