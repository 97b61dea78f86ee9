import pytest
import torch
from torch import Tensor

from vidkd.base.errors import ConfigError
from vidkd.models import AttentionConfig
from vidkd.models.attention import AttentionPooling, MapLogits, attended, log_attention, sampled_attention
from vidkd.models.backbone import Stage

BATCH, CHANNELS, FRAMES, SIZE = 2, 6, 4, 4
STAGE = Stage(CHANNELS, 2, 8)
SOFTMAXES = ["spatial", "spatiotemporal"]


@pytest.fixture
def features() -> Tensor:
    return torch.randn(BATCH, CHANNELS, FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def pooling(*, weight_std: float = 1.0, **config: object) -> AttentionPooling:
    torch.manual_seed(0)
    module = AttentionPooling(AttentionConfig(**config), STAGE, STAGE)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=weight_std)
    return module.eval()


def test_mean_pooling_has_no_map(features: Tensor) -> None:
    pooled, maps = pooling(pooling="mean")(features, features)
    assert maps == {}
    torch.testing.assert_close(pooled, features.mean(dim=(3, 4)).transpose(1, 2))


@pytest.mark.parametrize(("softmax", "dimensions"), [("spatial", (2, 3)), ("spatiotemporal", (1, 2, 3))])
def test_a_map_sums_to_one_per_frame_or_per_clip(features: Tensor, softmax: str, dimensions: tuple[int, ...]) -> None:
    _, maps = pooling(pooling="soft", softmax=softmax)(features, features)
    total = maps["motion"].exp().sum(dim=dimensions)
    torch.testing.assert_close(total, torch.ones_like(total))
    assert maps["motion"].exp().std() > 0.005


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_uniform_logits_are_mean_pooling(features: Tensor, softmax: str) -> None:
    pooled, _ = pooling(weight_std=0.0, pooling="soft", softmax=softmax)(features, features)
    torch.testing.assert_close(pooled.mean(1), features.mean(dim=(2, 3, 4)), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_a_peaked_map_picks_its_position(features: Tensor, softmax: str) -> None:
    logits = torch.full((BATCH, FRAMES, SIZE, SIZE), -60.0)
    logits[:, :, 1, 2] = 0.0
    if softmax == "spatiotemporal":
        logits[:, 1:] = -60.0
    pooled = attended(features, log_attention(logits, softmax).exp().unsqueeze(1), softmax=softmax)
    picked = features[:, :, :, 1, 2].mean(2) if softmax == "spatial" else features[:, :, 0, 1, 2]
    torch.testing.assert_close(pooled.mean(1), picked)


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_residual_adds_mean_pooling(features: Tensor, softmax: str) -> None:
    plain, _ = pooling(pooling="soft", softmax=softmax)(features, features)
    residual, _ = pooling(pooling="soft", softmax=softmax, residual=True)(features, features)
    torch.testing.assert_close(residual, plain + features.mean(dim=(3, 4)).transpose(1, 2))


def test_two_maps_are_concatenated_in_order(features: Tensor) -> None:
    module = pooling(pooling="soft", maps="two")
    pooled, maps = module(features, features)
    assert list(maps) == ["motion", "appearance"]
    assert pooled.shape == (BATCH, FRAMES, 2 * CHANNELS) == (BATCH, FRAMES, module.output_channels)
    for part, name in zip(pooled.split(CHANNELS, dim=2), maps, strict=True):
        torch.testing.assert_close(part, attended(features, maps[name].exp().unsqueeze(1)))
    assert not torch.allclose(maps["motion"], maps["appearance"])


def test_probabilistic_in_evaluation_is_soft(features: Tensor) -> None:
    soft, _ = pooling(pooling="soft")(features, features)
    probabilistic, _ = pooling(pooling="probabilistic", temperature=3.0)(features, features)
    assert torch.equal(soft, probabilistic)


def test_noise_only_in_training_and_never_in_the_returned_map(features: Tensor) -> None:
    module = pooling(pooling="probabilistic")
    still, still_maps = module(features, features)
    module.train()
    torch.manual_seed(5)
    first, maps = module(features, features)
    second, _ = module(features, features)
    torch.manual_seed(5)
    again, _ = module(features, features)
    assert not torch.allclose(first, still)
    assert not torch.allclose(first, second)
    assert torch.equal(first, again)  # the global generator decides, so restoring it resumes exactly
    assert torch.equal(maps["motion"], still_maps["motion"])


def test_the_largest_noisy_logit_is_distributed_as_the_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0]).view(1, 1, 2, 2)
    draws = 40_000
    winners = sampled_attention(logits, draws, temperature=0.5).flatten(2).argmax(dim=2).flatten()
    frequency = torch.bincount(winners, minlength=4) / draws
    expected = logits.flatten().softmax(0)
    five_sigma = 5 * (expected * (1 - expected) / draws).sqrt()
    assert ((frequency - expected).abs() < five_sigma).all()


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_sampled_weights_sum_to_one_and_differ_by_channel(softmax: str) -> None:
    torch.manual_seed(0)
    weights = sampled_attention(torch.zeros(BATCH, FRAMES, SIZE, SIZE), CHANNELS, temperature=1.0, softmax=softmax)
    dimensions = (3, 4) if softmax == "spatial" else (2, 3, 4)
    torch.testing.assert_close(weights.sum(dimensions), torch.ones_like(weights.sum(dimensions)))
    assert not torch.allclose(weights[:, 0], weights[:, 1])


def test_map_reaches_the_grid_of_the_later_stage() -> None:
    torch.manual_seed(0)
    module = MapLogits(Stage(3, 1, 4), Stage(5, 2, 8))
    source = torch.randn(2, 3, 8, 14, 14)
    assert module.conv.weight.shape == (1, 3, 1, 3, 3)
    assert module.conv.bias is None
    logits = module(source, torch.Size((4, 7, 7)))
    strided = module.conv(source).squeeze(1)
    assert strided.shape == (2, 8, 7, 7)
    torch.testing.assert_close(logits, strided.view(2, 4, 2, 7, 7).mean(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "mean", "maps": "two"}, "no attention map"),
        ({"pooling": "mean", "residual": True}, "no attention map"),
    ],
)
def test_configurations_without_a_meaning_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AttentionConfig(**arguments)
