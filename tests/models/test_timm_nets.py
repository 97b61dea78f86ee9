"""Image networks of timm: the features are timm's own, shifted ones those of a slow reference, what is frozen stays."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch.nn import functional

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.models import ModelConfig, VideoClassifier, build_backbone, timm_nets
from vidkd.models.config import TemporalConfig
from vidkd.models.temporal_shift import temporal_shift
from vidkd.models.timm_nets import TimmNet

NAMES = ("tf_efficientnet_lite0", "resnet10t", "vit_tiny_patch16_224", "mobilenetv4_conv_small_035", "convnext_atto", "swin_s3_tiny_224")


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
    elif own.shape != last.shape:  # channels last
        own = own.permute(0, 3, 1, 2)
    torch.testing.assert_close(last, own)
    for stage, size in backbone.layout.stages.items():
        assert features[stage].shape[1:] == (size.channels, 2, 224 // size.space_stride, 224 // size.space_stride)


@pytest.mark.parametrize("shift", ["none", "both"])
def test_a_pass_in_parts_is_the_whole_pass(shift: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no gradients are wanted, two clips of five at a time and then the last one."""
    monkeypatch.setattr(timm_nets, "PICTURES", 9)
    torch.manual_seed(0)
    network = build_backbone("timm:resnet10t").eval()
    assert isinstance(network, TimmNet)
    if shift == "both":
        network.shift("both")
    sizes: list[int] = []
    network.net.conv1.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    clip = torch.rand(5, 3, 4, 64, 64)
    whole = network(clip)
    with torch.inference_mode():
        parts = network(clip)
    assert sizes == [20, 8, 8, 4]
    assert list(whole) == list(parts)
    for stage, expected in whole.items():
        torch.testing.assert_close(parts[stage], expected, msg=stage)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
def test_stages_are_those_of_features_only(name: str) -> None:
    backbone = build_backbone(f"timm:{name}").eval()
    reference = timm.create_model(name, features_only=True).eval()
    weights = {key.replace("stages.", "stages_"): tensor for key, tensor in backbone.net.state_dict().items()}
    weights = {key.replace("stem.", "stem_") if name == "convnext_atto" else key: tensor for key, tensor in weights.items()}
    reference.load_state_dict({key: weights[key] for key in reference.state_dict()})
    clip = torch.rand(1, 3, 2, 64, 96)
    with torch.no_grad():
        features, expected = backbone(clip), reference(clip[0].transpose(0, 1))
    for stage, maps in list(zip(backbone.stages, expected, strict=True))[: -1 if name == "convnext_atto" else None]:
        torch.testing.assert_close(features[stage][0].transpose(0, 1), maps)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet10t", "convnext_atto"])
@pytest.mark.parametrize("shift", ["none", "both"])
def test_later_stages_from_each_stage_are_those_from_the_clip(name: str, shift: str) -> None:
    backbone = build_backbone(f"timm:{name}").eval()
    if shift == "both" and name != "convnext_atto":
        backbone.shift("both")
    with torch.no_grad():
        features = backbone(torch.rand(2, 3, 3, 64, 64))
        for number, stage in enumerate(backbone.stages):
            found = backbone.resume({stage: features[stage]})
            assert tuple(found) == backbone.stages[number:]
            for later, maps in found.items():
                torch.testing.assert_close(maps, features[later])


def test_shift_stands_before_the_first_convolution_of_each_residual_branch() -> None:
    """Against a ResNet that is written out, its frames shifted one channel after the other."""
    backbone = build_backbone("timm:resnet10t").eval()
    for layer in backbone.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.weight, 1.0, 0.1)
    backbone.shift("both")
    net: Any = backbone.net
    clip = torch.rand(2, 3, 4, 32, 32)
    with torch.no_grad():
        features = backbone(clip)["layer4"]
        for number in range(2):
            images = net.maxpool(net.act1(net.bn1(net.conv1(clip[number].transpose(0, 1)))))
            for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
                for block in layer:
                    own = images if block.downsample is None else block.downsample(images)
                    branch = functional.conv2d(
                        shifted_slowly(images, causal=False), block.conv1.weight, stride=block.conv1.stride, padding=1
                    )
                    images = (block.bn2(block.conv2(block.bn1(branch).relu())) + own).relu()
            torch.testing.assert_close(features[number].transpose(0, 1), images)


def test_a_network_of_one_input_size_says_which() -> None:
    with pytest.raises(ConfigError, match="224 x 224") as caught:
        build_backbone("timm:vit_tiny_patch16_224")(torch.rand(1, 3, 1, 160, 192))
    assert caught.value.lines["found"] == "192 x 160"


def test_weights_of_another_architecture_are_named(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet14t").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"weights\.pt into timm:resnet10t") as caught:
        VideoClassifier(ModelConfig(backbone="timm:resnet10t", weights=str(tmp_path / "weights.pt")), 3, "rgb")
    assert "layer1.0.conv3" in caught.value.lines["unexpected"]


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


def test_an_unknown_tag_of_weights_gets_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"(?s)cannot build 'resnet18.foo'.*known +: .*resnet18.a1_in1k"):
        build_backbone("timm:resnet18.foo")


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


def test_differences_are_pictures_of_what_moves() -> None:
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(backbone="timm:test_efficientnet", temporal=TemporalConfig(input="differences")), 3, "rgb").eval()
    clip = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8)
    clip[:, :, 3] = clip[:, :, 2]
    with torch.no_grad():
        found = model(clip).features
        pictures = 4 * (clip[:, :, 1::2].float() - clip[:, :, ::2].float()) / 255 / model.normalise.std
        expected = model.backbone.net.forward_intermediates(pictures.clamp(-2.2, 2.2).transpose(1, 2).flatten(0, 1))[1]
    torch.testing.assert_close(found["blocks_0"].transpose(1, 2).flatten(0, 1), expected[0])
    assert found[model.to_stage].shape[2] == 2
    torch.testing.assert_close(*found[model.to_stage][:, :, 1])  # grey, whatever stands still
    assert all(stage.time_stride == 2 for stage in model.backbone.layout.stages.values())
    with pytest.raises(ConfigError, match="pairs"):
        model(clip[:, :, :3])
    with pytest.raises(ConfigError, match="single images"):
        VideoClassifier(ModelConfig(temporal=TemporalConfig(input="differences")), 3, "rgb")


def test_a_network_that_reads_its_input_twice_takes_no_flow() -> None:
    with pytest.raises(ConfigError, match="reads its input by several layers"):
        build_backbone("timm:repvgg_a0", view="flow")


def test_shift_of_a_frozen_network_says_that_it_is_frozen() -> None:
    backbone = build_backbone("timm:resnet10t")
    assert isinstance(backbone, TimmNet)
    backbone.requires_grad_(False)
    with pytest.raises(ConfigError, match="stages that are frozen"):
        backbone.shift("both")
