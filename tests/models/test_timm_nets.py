"""Image networks of timm: the features are timm's own, shifted ones those of a slow reference, what is frozen stays."""

import pytest
import timm
import torch

from vidkd.base.errors import ConfigError
from vidkd.models import ModelConfig, VideoClassifier, build_backbone
from vidkd.models.config import TemporalConfig
from vidkd.models.temporal_shift import temporal_shift

NAMES = ("tf_efficientnet_lite0", "resnet10t", "vit_tiny_patch16_224", "mobilenetv4_conv_small_035")


@pytest.mark.parametrize("name", NAMES)
def test_the_last_stage_is_what_timm_pools(name: str) -> None:
    backbone = build_backbone(f"timm:{name}").eval()
    clip = torch.randn(1, 3, 2, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = backbone(clip)
        own = backbone.net.forward_features(clip[0].transpose(0, 1))
    last = features[backbone.stages[-1]][0].transpose(0, 1)
    if own.ndim == 3:  # tokens, the class token first
        own = own[:, 1:].transpose(1, 2).reshape(last.shape)
    torch.testing.assert_close(last, own)
    for stage, size in backbone.layout.stages.items():
        assert features[stage].shape[1:] == (size.channels, 2, 224 // size.space_stride, 224 // size.space_stride)


def shifted_slowly(clip: torch.Tensor, causal: bool) -> torch.Tensor:
    frames, channels = clip.shape[:2]
    result, part = torch.zeros_like(clip), channels // 8
    for t in range(frames):
        for c in range(channels):
            source = t + 1 if c < part and not causal else t - 1 if part <= c < 2 * part else t
            if 0 <= source < frames:
                result[t, c] = clip[source, c]
    return result


@pytest.mark.parametrize("causal", [False, True])
def test_shift_moves_an_eighth_each_way(causal: bool) -> None:
    clip = torch.randn(4, 16, 3, 3)
    torch.testing.assert_close(temporal_shift(clip, 4, causal=causal), shifted_slowly(clip, causal))


@pytest.mark.parametrize(("kind", "reach"), [("none", {2}), ("both", {0, 1, 2, 3, 4}), ("past", {2, 3, 4})])
def test_a_frame_reaches_the_frames_that_shift_lets_it(kind: str, reach: set[int]) -> None:
    torch.manual_seed(0)
    config = ModelConfig(backbone="timm:resnet10t", temporal=TemporalConfig(shift=kind))  # type: ignore[arg-type]
    model = VideoClassifier(config, 3, "rgb").eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # timm begins with residual branches of zero
            torch.nn.init.ones_(layer.weight)
    clip = torch.rand(1, 3, 5, 32, 32)
    other = clip.clone()
    other[:, :, 2] = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        change = (model(clip).features["layer4"] - model(other).features["layer4"]).abs().amax(dim=(0, 1, 3, 4))
    assert {t for t in range(5) if change[t] > 0} == reach


def test_shift_is_refused_where_there_is_no_place_for_it() -> None:
    for name in ("tiny3d", "timm:vit_tiny_patch16_224"):
        with pytest.raises(ConfigError, match="shift"):
            VideoClassifier(ModelConfig(backbone=name, temporal=TemporalConfig(shift="both")), 3, "rgb")


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(ConfigError, match="tf_efficientnet_lite0"):
        build_backbone("timm:tf_efficientnet_light0")


@pytest.mark.parametrize("name", ["timm:tf_efficientnet_lite0", "timm:resnet10t", "tiny3d", "r3d_18"])
def test_frozen_stages_do_not_change_and_later_ones_do(name: str) -> None:
    torch.manual_seed(0)
    stage = build_backbone(name).stages[-3]
    model = VideoClassifier(ModelConfig(backbone=name, freeze=stage), 3, "rgb").train()
    clip = torch.rand(2, 3, 4, 64, 64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features = model.eval()(clip).features
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1.0)
    model.train()(clip).logits[:, 0].sum().backward()
    optimizer.step()
    after = model.eval()(clip).features
    assert torch.equal(features[stage], after[stage])
    assert not torch.equal(features[model.backbone.stages[-1]], after[model.backbone.stages[-1]])
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith("backbone.") and name.endswith("running_mean") for name in changed)


def test_all_frozen_leaves_the_head() -> None:
    model = VideoClassifier(ModelConfig(backbone="timm:resnet10t", freeze="all"), 3, "rgb")
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {"fc.weight", "fc.bias"}
    assert not model.train().backbone.training
    with pytest.raises(ConfigError, match="layer9"):
        VideoClassifier(ModelConfig(backbone="timm:resnet10t", freeze="layer9"), 3, "rgb")


def test_flow_filters_are_the_mean_over_colours() -> None:
    rgb, flow = (build_backbone("timm:resnet10t", view=view) for view in ("rgb", "flow"))
    from vidkd.models.weights import load_backbone

    state = timm.create_model("resnet10t", pretrained=False).state_dict()
    load_backbone(flow, state, "test")
    load_backbone(rgb, state, "test")
    first = next(name for name, tensor in state.items() if tensor.ndim == 4)
    expected = state[first].mean(dim=1, keepdim=True).expand(-1, 2, -1, -1) * 1.5
    torch.testing.assert_close(flow.net.state_dict()[first], expected)
