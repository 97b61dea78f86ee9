import pytest
import torch
from quick_backbones import calibrated, quick_first
from torch import nn

from vidkd.models import BACKBONES, AttentionConfig, Backbone, ModelConfig, VideoClassifier, build_backbone
from vidkd.models.backbone import Stage, first_convolution
from vidkd.models.backbones import layout_of
from vidkd.models.mobilenet_shift import temporal_shift
from vidkd.models.weights import load_backbone

FRAMES, SIZE = 8, 64
MIN_FRAMES = {"s3d": 16}


def clip_for(name: str, channels: int = 3, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, MIN_FRAMES.get(name, FRAMES), SIZE, SIZE, generator=generator)


@pytest.fixture(scope="module", params=quick_first(sorted(BACKBONES)))
def named_backbone(request: pytest.FixtureRequest) -> tuple[str, Backbone]:
    torch.manual_seed(0)
    return request.param, build_backbone(request.param).eval()


def test_stages_have_the_declared_names_channels_and_strides(named_backbone: tuple[str, Backbone]) -> None:
    name, backbone = named_backbone
    clip = clip_for(name)
    with torch.no_grad():
        features = backbone(clip)
        as_yielded = [features.clone() for features in backbone.walk(clip)]
    # no later stage may write into the features of an earlier one
    assert all(torch.equal(final, early) for final, early in zip(features.values(), as_yielded, strict=True))
    declared = layout_of(name).stages
    assert tuple(features) == backbone.stages == tuple(declared)
    for stage, size in declared.items():
        side = -(-SIZE // size.space_stride)
        assert features[stage].shape == (1, size.channels, -(-clip.shape[2] // size.time_stride), side, side), stage
        assert backbone.channels[stage] == size.channels


def test_attention_on_top_and_gradient_to_the_first_layer(named_backbone: tuple[str, Backbone]) -> None:
    name, _ = named_backbone
    torch.manual_seed(0)
    config = ModelConfig(backbone=name, attention=AttentionConfig(pooling="probabilistic", maps="two"), dropout=0.0)
    classifier = VideoClassifier(config, 5, "rgb").train()
    clip = torch.randint(0, 256, clip_for(name, batch=2).shape, dtype=torch.uint8)
    output = classifier(clip)
    last = output.features[classifier.backbone.stages[-1]]
    assert output.logits.shape == (2, 5)
    assert output.pooled.shape == (2, 2 * last.shape[1])
    for log_map in output.attention.values():
        assert log_map.shape == (2, *last.shape[2:])
        torch.testing.assert_close(log_map.exp().sum(dim=(2, 3)), torch.ones(2, last.shape[2]))
    nn.functional.cross_entropy(output.logits, torch.tensor([0, 1])).backward()
    gradient = first_convolution(classifier.backbone.net)[1].weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    assert all(module.conv.weight.grad.abs().max() > 0 for module in classifier.pooling.maps.values())


def test_flow_network_from_rgb_weights_averages_the_first_filters(named_backbone: tuple[str, Backbone]) -> None:
    name, backbone = named_backbone
    flow = build_backbone(name, view="flow").eval()
    load_backbone(flow, backbone.net.state_dict(), "test")
    key = f"{first_convolution(backbone.net)[0]}.weight"
    rgb, adapted = backbone.net.state_dict()[key], flow.net.state_dict()[key]
    for channel in (0, 1):
        torch.testing.assert_close(adapted[:, channel], (rgb[:, 0] + rgb[:, 1] + rgb[:, 2]) / 2)
    others = [other for other in backbone.net.state_dict() if other != key]
    assert all(torch.equal(backbone.net.state_dict()[other], flow.net.state_dict()[other]) for other in others)
    grey = clip_for(name, channels=1)
    with torch.no_grad():
        same = next(flow.walk(grey.expand(-1, 2, -1, -1, -1))), next(backbone.walk(grey.expand(-1, 3, -1, -1, -1)))
    torch.testing.assert_close(*same, atol=1e-4, rtol=1e-4)
    assert same[0].std() > 0.02


def test_temporal_shift_by_hand() -> None:
    clip = torch.arange(1, 13).view(1, 3, 4, 1, 1).float()  # frames 1..4, 5..8, 9..12 of four channels
    shifted = temporal_shift(clip.flatten(0, 1), 3, fold=4).view(3, 4)
    assert shifted.tolist() == [[5, 0, 3, 4], [9, 2, 7, 8], [0, 6, 11, 12]]


def test_without_shift_the_mobilenet_is_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import mobilenet_v3_small

    clip = clip_for("mobilenet_v3_small")
    reference = calibrated(mobilenet_v3_small(), clip.transpose(1, 2).flatten(0, 1))
    backbone = build_backbone("mobilenet_v3_small").eval()
    load_backbone(backbone, reference.state_dict(), "test")
    with torch.no_grad():
        shifted = backbone(clip)["stage4"]
        monkeypatch.setattr("vidkd.models.mobilenet_shift.temporal_shift", lambda images, frames: images)
        still = backbone(clip)["stage4"]
        expected = torch.stack([reference.features(clip[:, :, frame]) for frame in range(FRAMES)], dim=2)
    torch.testing.assert_close(still, expected, atol=1e-5, rtol=1e-4)
    assert expected.std() > 0.05
    assert (shifted - expected).abs().mean() > 0.01


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t", "mobilenet_v3_small"])
def test_normalisation_is_that_of_torchvisions_weights(name: str) -> None:
    from torchvision.models import get_model_weights

    transform = get_model_weights(name).DEFAULT.transforms()
    declared = layout_of(name).input
    assert declared.mean == pytest.approx(transform.mean)
    assert declared.std == pytest.approx(transform.std)
    assert declared.size == transform.crop_size[0]


def test_shift_by_hand():
    assert Stage(96, 2, 8).shift_cells == 0.5 / 8 - 0.5
    assert Stage(96, 2, 8, 3.5).shift_cells == 0.0


@pytest.mark.parametrize("name", ["tiny3d", pytest.param("r3d_18", marks=pytest.mark.slow), "x3d_xs"])
def test_declared_first_pixel_is_the_centre_of_what_a_position_sees(name):
    """With even weights everywhere, the gradient of one position is centred on first_px + stride * column."""
    net = build_backbone(name).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data.fill_(1 / module.weight[0].numel())
    clip = torch.rand(1, 3, 4, 128, 128).requires_grad_()
    features = net(clip)
    for stage, declared in layout_of(name).stages.items():
        column = features[stage].shape[-1] // 2
        position = features[stage][:, :, 0, column, column].sum()
        seen = torch.autograd.grad(position, clip, retain_graph=True)[0].abs().sum((0, 1, 2, 3))
        centre = (seen * torch.arange(128)).sum() / seen.sum()
        assert centre.item() == pytest.approx(declared.first_px + declared.space_stride * column, abs=0.25)
