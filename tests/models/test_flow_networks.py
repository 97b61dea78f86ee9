"""Networks that see flow: the first convolution made of RGB filters, for one field a frame and for a stack."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.models import ModelConfig, VideoClassifier, build_backbone
from vidkd.models.backbone import first_convolution
from vidkd.models.saved import SavedClassifier, load_classifier, save_classifier

NAMES = ("timm:resnet10t", "timm:tf_efficientnet_lite0", "timm:vit_tiny_patch16_224", "tiny3d")


@pytest.mark.parametrize("stack", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_rgb_weights_answer_a_constant_as_before(name: str, stack: int, tmp_path: Path) -> None:
    """Cross-modality initialisation: every flow channel has the mean over colours, and one value in all channels the same response."""
    torch.manual_seed(0)
    rgb = build_backbone(name)
    save_file({key: value.contiguous() for key, value in rgb.net.state_dict().items()}, tmp_path / "rgb.safetensors")
    config = ModelConfig(backbone=name, weights=str(tmp_path / "rgb.safetensors"))
    flow = VideoClassifier(config, 3, "flow", flow_stack=stack).backbone
    (first, before), (_, after) = (first_convolution(net) for net in (rgb.net, flow.net))
    assert after.weight.shape[1] == after.in_channels == 2 * stack
    expected = before.weight.mean(1, keepdim=True) * 3 / (2 * stack)
    torch.testing.assert_close(after.weight, expected.expand_as(after.weight))
    ones = torch.ones(1, 2 * stack, *(32,) * (before.weight.ndim - 2))
    torch.testing.assert_close(after(ones), before(ones[:, :1].expand(-1, 3, *ones.shape[2:])), atol=1e-5, rtol=1e-4)
    others = [key for key in rgb.net.state_dict() if key != f"{first}.weight"]
    assert all(torch.equal(rgb.net.state_dict()[key], flow.net.state_dict()[key]) for key in others)


@pytest.mark.parametrize("stack", [1, 5])
def test_fresh_networks_keep_the_variance_of_the_response(stack: int) -> None:
    torch.manual_seed(0)
    rgb, flow = build_backbone("tiny3d"), build_backbone("tiny3d", view="flow", flow_stack=stack)
    (_, before), (_, after) = (first_convolution(net) for net in (rgb.net, flow.net))
    shape = (9, 40, 40)
    with torch.no_grad():
        spread = [layer(torch.randn(4, layer.in_channels, *shape)).std() for layer in (before, after)]
    assert spread[1] / spread[0] == pytest.approx(1, abs=0.1)


def test_a_stack_is_saved_with_the_network_and_other_channels_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(flow_bound_px=5.0), 2, "flow", flow_stack=3).eval()
    save_classifier(tmp_path / "flow.pt", SavedClassifier(model=model, classes=("a", "b"), view="flow", run={}))
    clip = torch.randn(2, 6, 4, 32, 32) * 4
    again = load_classifier(tmp_path / "flow.pt").model
    assert again.flow_stack == 3
    with torch.no_grad():
        assert torch.equal(again(clip).logits, model(clip).logits)
        with pytest.raises(ConfigError, match=r"6 channels, the clip has 2(.|\n)*data\.flow\.stack=3"):
            model(clip[:, :2])
        with pytest.raises(ConfigError, match=r"3 channels, the clip has 6(.|\n)*view rgb"):
            VideoClassifier(ModelConfig(), 2, "rgb")(clip)
    with pytest.raises(CheckpointError, match="other shape"):  # of another stack
        VideoClassifier(dataclasses.replace(model.config, weights=str(tmp_path / "flow.pt")), 2, "flow")


@pytest.mark.skipif("VIDKD_DATA" not in os.environ, reason="needs ImageNet weights below $VIDKD_DATA")
def test_imagenet_weights_of_timm_see_flow() -> None:
    file = Path(os.environ["VIDKD_DATA"], "weights", "imagenet", "tf_efficientnet_lite0.safetensors")
    if not file.is_file():
        pytest.skip(f"no weights at {file}")
    config = ModelConfig(backbone="timm:tf_efficientnet_lite0", weights=str(file))
    flow = VideoClassifier(config, 3, "flow", flow_stack=5).eval()
    assert flow.random_parameters == ("fc.weight", "fc.bias")
    grey = torch.full((1, 3, 2, 64, 64), 0.25)
    rgb = build_backbone("timm:tf_efficientnet_lite0").eval()
    rgb.net.load_state_dict(VideoClassifier(config, 3, "rgb").backbone.net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(flow.backbone(grey[:, :1].expand(-1, 10, -1, -1, -1)), rgb(grey), atol=1e-3, rtol=1e-3)
