import copy
import json
from pathlib import Path

import pytest
import torch
from quick_backbones import quick_first
from torch import Tensor, nn
from zeroed_filters import lively, switch_off

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.compress.graph import Coupling, couplings, pieces_of
from vidkd.compress.prune import filters_to_remove, layers_with_weights, prune, scores
from vidkd.compress.recipe import PruneConfig
from vidkd.models import BACKBONES, AttentionConfig, ModelConfig, VideoClassifier
from vidkd.models.changes import apply_changes
from vidkd.models.config import TemporalConfig
from vidkd.models.macs import network_cost
from vidkd.models.saved import classifier_payload, load_classifier

ATTENTION = AttentionConfig(pooling="probabilistic", maps="two")
TOKENS = {"mvit_v2_s", "swin3d_t"}


def classifier(name: str = "tiny3d", **settings: object) -> VideoClassifier:
    torch.manual_seed(0)
    config = ModelConfig(backbone=name, attention=ATTENTION, **settings)  # type: ignore[arg-type]
    return VideoClassifier(config, 4, "rgb", {"verb": 3}).eval()


def clip(name: str = "tiny3d", size: int = 32, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, 16 if name == "s3d" else 8, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", quick_first(sorted(BACKBONES)))
def test_filters_that_put_out_zero_go_from_every_backbone_without_a_trace(name: str, tmp_path: Path) -> None:
    model, example = classifier(name), clip(name)
    lively(model, clip(name, batch=2))
    switch_off(model, example)
    criterion = "l2" if name in TOKENS else "norm_scale"
    done = prune(model, example, PruneConfig(ratio=0.5, criterion=criterion, scope="uniform"))
    with torch.no_grad():
        # in double precision: float32 would hide a mistake in the noise of a deep random network
        before, after = (copy.deepcopy(net).double()(example.double()) for net in (model, done.model))
    assert before.logits.std() > 1e-3
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(after.targets, before.targets, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(after.attention, before.attention, rtol=1e-6, atol=1e-6)  # whose logits are always float32
    smaller, whole = network_cost(done.model, example), network_cost(model, example)
    assert (smaller.parameters < whole.parameters, smaller.macs < whole.macs) == (True, True)
    assert {stage: features.shape[1] for stage, features in after.features.items()} == done.model.backbone.channels
    torch.save({"student": classifier_payload(done.model, list("abcd"), {"verb": list("xyz")})}, tmp_path / "model.pt")
    saved = load_classifier(tmp_path / "model.pt").model
    with torch.no_grad():
        assert torch.equal(saved(example).logits, done.model(example).logits)
    assert saved.changes == (done.plan,)


@pytest.mark.parametrize(
    ("name", "temporal"),
    [
        ("timm:test_efficientnet", {"pooling": "difference"}),
        ("timm:test_efficientnet", {"pooling": "gru", "width": 16}),
        ("timm:resnet10t", {"pooling": "transformer", "width": 16}),
        ("timm:resnet10t", {"shift": "both"}),
    ],
)
def test_filters_that_put_out_zero_go_from_image_networks(name: str, temporal: dict[str, object]) -> None:
    model, example = classifier(name, temporal=TemporalConfig(**temporal)), clip(name)  # type: ignore[arg-type]
    lively(model, clip(name, batch=2))
    switch_off(model, example)
    done = prune(model, example, PruneConfig(ratio=0.5, criterion="norm_scale", scope="uniform"))
    with torch.no_grad():
        before, after = (copy.deepcopy(net).double()(example.double()) for net in (model, done.model))
    assert before.logits.std() > 1e-3
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-9, atol=1e-11)
    assert network_cost(done.model, example).macs < 0.9 * network_cost(model, example).macs


def test_half_of_tiny3d_is_counted_by_hand() -> None:
    model = classifier()
    done = prune(model, clip(), PruneConfig(ratio=0.5, scope="uniform"))
    assert done.model.backbone.channels == {"stem": 12, "stage2": 24, "stage3": 48, "stage4": 48}
    kernel = 12 * 3 * 27 + 24 * 12 * 27 + 48 * 24 * 27 + 48 * 48 * 9 + 48 * 48 * 3
    norms = 2 * (12 + 24 + 48 + 48 + 48)
    heads = 2 * 48 * 9 + (4 + 3) * (2 * 48 + 1)
    assert sum(each.numel() for each in done.model.parameters()) == kernel + norms + heads
    assert done.layers["backbone.net.stem.0"] == "24 -> 12 filters"
    assert done.layers["backbone.net.stage4.temporal.0"] == "96 -> 48 filters, bound to those of backbone.net.stage3.0"
    assert {*done.layers, *done.left} == set(layers_with_weights(model))
    assert set(done.left) == {"fc", "target_fc.verb", "pooling.maps.motion.conv", "pooling.maps.appearance.conv"}


def test_the_network_that_was_given_is_left_as_it_was() -> None:
    model = classifier()
    before = copy.deepcopy(model.state_dict())
    done = prune(model, clip(), PruneConfig())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.changes == ()
    weight = done.model.get_parameter("backbone.net.stage2.0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)  # as Tiny3D lays its weights out


def test_steps_and_plans_follow_one_another() -> None:
    model, example, config = classifier(), clip(), PruneConfig(ratio=0.5, scope="uniform", steps=2)
    first = prune(model, example, config, step=1)
    second = prune(first.model, example, config, step=2)
    assert first.model.backbone.channels["stage4"] == 72
    assert second.model.backbone.channels["stage4"] == 48
    assert second.model.changes == (first.plan, second.plan)
    plans = json.loads(json.dumps(second.model.changes))
    rebuilt = classifier()
    apply_changes(rebuilt, plans)
    rebuilt.load_state_dict(second.model.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt(example).logits, second.model(example).logits)


def test_no_layer_loses_more_than_its_most_over_all_steps() -> None:
    """One layer has the least weights of all, so every step takes as much of it as it may."""
    model, example = classifier(), clip()
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.dim() == 5:
                parameter.uniform_(0.5, 1.0)
        model.backbone.net.get_parameter("stage3.0.weight")[::2] *= 1e-3  # scores are relative to the mean of the layer
    config = PruneConfig(ratio=0.4, steps=2, most_of_layer=0.45)
    first = prune(model, example, config, step=1)
    second = prune(first.model, example, config, step=2, whole=model)
    own = [name for name, done in first.layers.items() if "bound" not in done]
    before, after = ({name: len(net.get_parameter(f"{name}.weight")) for name in own} for net in (model, second.model))
    assert after["backbone.net.stage3.0"] == 96 - 43, "all that it may lose, in the first step"
    assert all(after[name] >= 0.55 * count for name, count in before.items())
    assert sum(before.values()) - sum(after.values()) == round(0.4 * sum(before.values()))


def test_condition_on_observed_and_excluded_layers() -> None:
    model = classifier(condition_on_observed=True)
    done = prune(model, clip(), PruneConfig(exclude=("backbone.net.stem*",)))
    assert done.left["backbone.net.stem.0"] == "exclude: backbone.net.stem*"
    assert done.model.backbone.channels["stem"] == 24
    assert done.model.observed is not None
    assert done.model.fc.in_features == done.model.pooling.output_channels < 192
    assert done.model(clip(), torch.tensor([0.5])).logits.shape == (1, 4)


def test_a_network_without_filters_that_may_go_is_refused() -> None:
    with pytest.raises(ConfigError, match="no filter"):
        prune(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8), PruneConfig())
    with pytest.raises(ConfigError, match="no batch normalisation"):
        prune(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), torch.randn(1, 3, 8, 8), PruneConfig(criterion="norm_scale"))


def test_a_network_that_is_not_understood_is_refused() -> None:
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            mixed = torch.einsum("bchw,cd->bdhw", self.first(images), torch.eye(8))
            return self.last(mixed)

    with pytest.raises(ConfigError, match="does not run"):
        prune(Shuffled(), torch.randn(1, 3, 8, 8), PruneConfig())
    with pytest.raises(ConfigError, match="cannot state"):
        prune(nn.Sequential(nn.Conv2d(3, 8, 1), nn.PReLU(8), nn.Conv2d(8, 2, 1)), torch.randn(1, 3, 8, 8), PruneConfig())


@pytest.mark.parametrize(
    "plan",
    [
        {"layers": {"fc": {}}},
        {"kind": "prune"},
        {"kind": "factorise", "layers": {"fc": {"method": "channel"}}},
        {"kind": "prune", "layers": {"backbone.net.stem.9": {"out_channels": 2}}},
        {"kind": "prune", "layers": {"backbone.net.stem.0": {"weight": 3}}},
        {"kind": "prune", "layers": {}, "stages": {"stage9": 3}},
    ],
)
def test_a_plan_that_does_not_fit_is_refused(plan: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="does not fit the network"):
        apply_changes(classifier(), [plan])


SCORES = {"a": torch.tensor([4.0, 1.0, 3.0, 2.0]), "b": torch.tensor([0.1, 0.2, 9.0, 8.0, 7.0, 0.3])}


def test_uniform_takes_the_lowest_of_each_layer() -> None:
    assert filters_to_remove(SCORES, PruneConfig(scope="uniform"), share=0.5) == {"a": [1, 3], "b": [0, 1, 5]}


def test_global_ranks_all_layers_together() -> None:
    assert filters_to_remove(SCORES, PruneConfig(), share=0.4) == {"a": [1], "b": [0, 1, 5]}


def test_global_stops_at_the_most_of_a_layer_and_takes_the_rest_elsewhere() -> None:
    config = PruneConfig(most_of_layer=1 / 3)
    assert filters_to_remove(SCORES, config, share=0.3) == {"a": [1], "b": [0, 1]}


def test_equal_scores_go_in_order() -> None:
    assert filters_to_remove({"a": torch.zeros(5)}, PruneConfig(scope="uniform"), share=0.4) == {"a": [0, 1]}


@pytest.mark.parametrize(
    ("config", "share", "text"),
    [
        (PruneConfig(scope="uniform"), 0.9, "all 4 filters of a"),
        (PruneConfig(most_of_layer=1), 0.95, "all 4 filters of a"),
        (PruneConfig(most_of_layer=0.5), 0.6, "only 5 may go"),
    ],
)
def test_a_ratio_that_removes_a_whole_layer_is_refused(config: PruneConfig, share: float, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        filters_to_remove(SCORES, config, share=share)


class Residual(nn.Module):
    """Two convolutions whose outputs are added, so that they must lose the same filters, and one that reads them."""

    def __init__(self, *, norm: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.norm(self.first(images) + self.second(images)))


def free(net: nn.Module) -> list[Coupling]:
    return [each for each in couplings(pieces_of(net, torch.randn(1, 2, 4, 4))) if each.excluded is None]


def made(*, norm: bool = True) -> Residual:
    torch.manual_seed(0)
    net = Residual(norm=norm).eval()
    if norm:
        for values in (net.norm.weight, net.norm.bias, net.norm.running_mean):
            nn.init.normal_(values)
    return net


@pytest.mark.parametrize(("criterion", "power"), [("l1", 1), ("l2", 2)])
def test_norms_are_averaged_over_the_layers_of_a_coupling_and_compared_with_its_mean(criterion: str, power: int) -> None:
    net = made()
    found = scores(net, free(net), criterion)  # type: ignore[arg-type]
    sizes = [(layer.weight.detach().double().abs() ** power).mean((1, 2, 3)) ** (1 / power) for layer in (net.first, net.second)]
    expected = sum(sizes) / 2
    ((name, values),) = found.items()
    assert name in ("first", "second")
    torch.testing.assert_close(values, expected / expected.mean())


def test_norm_scale_is_the_magnitude_of_gamma() -> None:
    net = made()
    (values,) = scores(net, free(net), "norm_scale").values()
    torch.testing.assert_close(values, net.norm.weight.detach().double().abs())
    plain = made(norm=False)
    assert scores(plain, free(plain), "norm_scale") == {}


@pytest.mark.parametrize("norm", [True, False])
def test_taylor_is_the_squared_change_of_a_loss_that_is_linear_in_the_filter(norm: bool) -> None:
    net, generator = made(norm=norm), torch.Generator().manual_seed(1)
    batches = [torch.randn(3, 2, 4, 4, generator=generator) for _ in range(2)]
    weight = torch.randn(3, 2, 4, 4, generator=generator)

    def losses(net: nn.Module) -> list[Tensor]:
        return [(net(batch) * weight).sum() for batch in batches]

    (values,) = scores(net, free(net), "taylor", losses=losses).values()
    full, changes = losses(net), []
    for filter_ in range(3):
        without = made(norm=norm)
        with torch.no_grad():
            for layer in [without.norm] if norm else [without.first, without.second]:
                layer.weight[filter_] = 0
                layer.bias[filter_] = 0
        changes.append(sum((there - here).square() for there, here in zip(losses(without), full, strict=True)) / 2)
    torch.testing.assert_close(values, torch.stack(changes).detach().double(), rtol=1e-3, atol=1e-3)


def test_random_is_drawn_from_its_seed() -> None:
    net = made()
    first, again, other = (next(iter(scores(net, free(net), "random", seed=seed).values())) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
