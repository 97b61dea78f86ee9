"""A classifier that answers after every frame: later frames change nothing before them, the whole window is that of a cut one."""

import dataclasses
from typing import Any

import pytest
import torch

from vidkd.base.errors import ConfigError
from vidkd.models import ClassifierOutput, ModelConfig, VideoClassifier
from vidkd.models.config import AttentionConfig, TemporalConfig
from vidkd.models.temporal import TemporalPooling

POOLINGS = ("mean", "difference", "gru", "transformer")


def causal(pooling: Any = "gru", shift: Any = "none", **config: Any) -> VideoClassifier:
    torch.manual_seed(0)
    temporal = TemporalConfig(pooling=pooling, width=16, shift=shift, answers="frames")
    model = VideoClassifier(ModelConfig(backbone="timm:resnet10t", temporal=temporal, **config), 3, "rgb", {"verb": 2}).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # timm begins with residual branches of zero, in which a shift does nothing
            torch.nn.init.ones_(layer.weight)
    return model


def answers(model: VideoClassifier, clip: torch.Tensor) -> ClassifierOutput:
    with torch.no_grad():
        output: ClassifierOutput = model(clip)
    return output


@pytest.fixture
def clip() -> torch.Tensor:
    return torch.rand(2, 3, 5, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shift", ["none", "past"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_later_frames_change_no_earlier_answer(pooling: str, shift: str, clip: torch.Tensor) -> None:
    model, other = causal(pooling, shift), clip.clone()
    other[:, :, 3:] = 1 - other[:, :, 3:]
    one, two = answers(model, clip), answers(model, other)
    for kind in ("", "verb"):
        change = (one.frames[kind] - two.frames[kind]).abs().amax(dim=(0, 2))
        assert change[:3].max() == 0
        assert change[3:].min() > 0


@pytest.mark.parametrize("shift", ["none", "past"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_answer_is_that_of_the_clip_cut_after_its_frame(pooling: str, shift: str, clip: torch.Tensor) -> None:
    model = causal(pooling, shift, attention=AttentionConfig(pooling="soft"))
    whole = answers(model, clip)
    assert whole.frames[""].shape == (2, 5, 3)
    for last in range(5):
        cut = answers(model, clip[:, :, : last + 1])
        torch.testing.assert_close(whole.frames[""][:, last], cut.logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(whole.frames["verb"][:, last], cut.targets["verb"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "gru"])
def test_the_last_answer_is_that_of_a_classifier_of_clips(pooling: Any, clip: torch.Tensor) -> None:
    model = causal(pooling)
    config = dataclasses.replace(model.config, temporal=dataclasses.replace(model.config.temporal, answers="clip"))
    other = VideoClassifier(config, 3, "rgb", {"verb": 2}).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(answers(model, clip).logits, answers(other, clip).logits)
    assert not answers(other, clip).frames


def test_differences_run_from_zero() -> None:
    pooling = TemporalPooling(TemporalConfig(pooling="difference", answers="frames"), 1)
    frames = torch.tensor([[[1.0], [3.0], [2.0]]])
    torch.testing.assert_close(pooling(frames)[1], torch.tensor([[[1.0, 0.0], [2.0, 2.0], [2.0, 1.5]]]))


def test_what_sees_later_frames_is_refused() -> None:
    temporal = TemporalConfig(answers="frames")
    with pytest.raises(ConfigError, match="shift"):
        TemporalConfig(answers="frames", shift="both")
    with pytest.raises(ConfigError, match="spatio-temporal"):
        ModelConfig(temporal=temporal, attention=AttentionConfig(pooling="soft", softmax="spatiotemporal"))
    with pytest.raises(ConfigError, match="condition_on_observed"):
        ModelConfig(temporal=temporal, condition_on_observed=True)
    for name in ("tiny3d", "mobilenet_v3_small"):
        with pytest.raises(ConfigError, match=f"{name} sees later frames"):
            VideoClassifier(ModelConfig(backbone=name, temporal=temporal), 3, "rgb")
