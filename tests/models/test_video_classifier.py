import pytest
import torch

from vidkd.base.errors import ConfigError
from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier, build_backbone, undecayed_parameters
from vidkd.models.backbone import InputSpec, Normalise

RGB = (2, 3, 8, 32, 32)
FLOW = (2, 2, 8, 32, 32)


def rgb_clip() -> torch.Tensor:
    return torch.randint(0, 256, RGB, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def classifier(view: str = "rgb", **config: object) -> VideoClassifier:
    torch.manual_seed(0)
    return VideoClassifier(ModelConfig(**config), 4, view)


def test_rgb_is_normalised_by_hand() -> None:
    spec = build_backbone("r3d_18").input
    clip = torch.full((1, 3, 1, 1, 1), 128, dtype=torch.uint8)
    expected = [(128 / 255 - 0.43216) / 0.22803, (128 / 255 - 0.394666) / 0.22145, (128 / 255 - 0.37645) / 0.216989]
    assert Normalise(spec)(clip).flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_flow_is_clamped_and_scaled_by_hand() -> None:
    normalise = Normalise(InputSpec(mean=(0.4,) * 3, std=(0.2,) * 3, frames=8, size=64).for_flow())
    flow = torch.tensor([30.0, -5.0, -45.0, 10.0], dtype=torch.float16).view(1, 2, 2, 1, 1)
    assert normalise(flow).flatten().tolist() == pytest.approx([2.0, -0.5, -2.0, 1.0])


def test_output_of_the_flow_view() -> None:
    output = classifier("flow", attention=AttentionConfig(pooling="soft"))(torch.randn(FLOW).half())
    assert output.logits.shape == (2, 4)
    assert output.logits.dtype == torch.float32
    assert output.pooled.shape == (2, 96)
    assert list(output.features) == ["stem", "stage2", "stage3", "stage4"]
    assert output.attention["motion"].shape == (2, 4, 4, 4)


def test_chosen_stages_are_used() -> None:
    attention = AttentionConfig(pooling="soft", from_stage="stage2", to_stage="stage3")
    model = classifier(attention=attention).eval()
    output = model(rgb_clip())
    assert model.pooling.maps["motion"].conv.in_channels == 48
    assert model.pooling.maps["motion"].conv.stride == (1, 2, 2)
    assert output.attention["motion"].shape == (2, *output.features["stage3"].shape[2:])
    weights = output.attention["motion"].exp().unsqueeze(1)
    torch.testing.assert_close(output.pooled, (output.features["stage3"] * weights).sum((3, 4)).mean(2))


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (AttentionConfig(pooling="soft", from_stage="stage5"), "unknown stage of tiny3d 'stage5'"),
        (AttentionConfig(pooling="soft", from_stage="stage4", to_stage="stage2"), "comes after"),
    ],
)
def test_stages_that_do_not_fit_are_refused(attention: AttentionConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        classifier(attention=attention)


def test_frozen_statistics_stay_through_training() -> None:
    for freeze_norm in (True, False):
        model = classifier(freeze_norm=freeze_norm).train()
        before = model.backbone.net.stem[1].running_mean.clone()
        model(rgb_clip())
        assert torch.equal(model.backbone.net.stem[1].running_mean, before) is freeze_norm
        assert model.training
        assert model.dropout.training


def test_head_and_undecayed_parameters() -> None:
    model = classifier(attention=AttentionConfig(pooling="soft", maps="two"))
    head = {name for name, parameter in model.named_parameters() if any(parameter is other for other in model.head_parameters())}
    assert head == {"pooling.maps.motion.conv.weight", "pooling.maps.appearance.conv.weight", "fc.weight", "fc.bias"}
    undecayed = {name for name, parameter in model.named_parameters() if any(parameter is other for other in undecayed_parameters(model))}
    assert {"fc.bias", "backbone.net.stem.1.weight", "backbone.net.stem.1.bias"} <= undecayed
    assert not {name for name in undecayed if model.get_parameter(name).ndim > 1}
