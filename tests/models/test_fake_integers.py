"""Rounding in training: how far it goes, what gradient passes, what it is like in the integer file, and that checkpoints stay plain."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from vidkd.engine.config import RunConfig
from vidkd.engine.fit import fit
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.backbones import BACKBONES
from vidkd.models.fake_integers import compute_in_fake_integers, rounded_input, rounded_weight
from vidkd.models.saved import load_classifier


def test_weights_are_rounded_filter_by_filter() -> None:
    weight = torch.tensor([[[1.27, -0.014, 0.016]], [[127.0, 0.4, -0.6]]])
    torch.testing.assert_close(rounded_weight(weight), torch.tensor([[[1.27, -0.01, 0.02]], [[127.0, 0.0, -1.0]]]))
    large = torch.randn(8, 3, 3, 3, 3)
    steps = large.abs().flatten(1).amax(1) / 127
    assert ((rounded_weight(large) - large).abs().flatten(1).amax(1) <= steps / 2 + 1e-7).all()
    assert torch.equal(rounded_weight(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_activations_are_rounded_over_their_range_and_zero_is_exact() -> None:
    values = torch.tensor([-0.3, 0.0, 0.0011, 2.25])
    found = rounded_input(values)
    assert found[1] == 0
    assert (found - values).abs().max() <= 2.55 / 255 / 2 + 1e-6
    torch.testing.assert_close(found, torch.tensor([-0.3, 0.0, 0.0, 2.25]))
    assert rounded_input(torch.linspace(0, 1, 1000)).unique().numel() == 256
    assert rounded_input(torch.linspace(3, 4, 1000)).unique().numel() < 70, "the range holds zero"


def test_the_range_is_of_the_batch_in_training_and_of_the_sample_in_evaluation() -> None:
    layer = nn.Linear(2, 1, bias=False)
    compute_in_fake_integers(layer)
    nn.init.constant_(layer.weight, 1.0)
    values = torch.tensor([[0.0, 1.0], [0.0, 100.0]])
    assert layer.eval()(values)[0].item() == pytest.approx(1.0)
    assert layer.train()(values)[0].item() == pytest.approx(3 * 100 / 255)


def test_the_gradient_passes_as_if_nothing_were_rounded() -> None:
    layer = nn.Conv3d(2, 3, 3)
    rounding = copy.deepcopy(layer)
    assert compute_in_fake_integers(rounding) == [""]
    clip = torch.randn(1, 2, 4, 5, 5, requires_grad=True)
    rounding(clip).sum().backward()
    with torch.no_grad():
        values, weight = rounded_input(clip), rounded_weight(layer.weight)
    exact = copy.deepcopy(layer)
    exact.weight.data.copy_(weight)
    values.requires_grad_()
    exact(values).sum().backward()
    assert clip.grad is not None
    torch.testing.assert_close(clip.grad, values.grad)
    torch.testing.assert_close(rounding.weight.grad, exact.weight.grad)
    torch.testing.assert_close(rounding.bias.grad, exact.bias.grad)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["tiny3d", "r3d_18", "mobilenet_v3_small"])
def test_every_convolution_rounds_and_the_state_stays(name: str) -> None:
    assert name in BACKBONES
    model = VideoClassifier(ModelConfig(backbone=name), 3, "rgb").eval()
    before, clip = {key: value.clone() for key, value in model.state_dict().items()}, torch.randint(0, 256, (1, 3, 8, 64, 64)).byte()
    plain = model(clip).logits
    rounding = copy.deepcopy(model)
    found = compute_in_fake_integers(rounding)
    assert len(found) == sum(isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear) for module in model.modules())
    after = rounding(clip).logits
    assert not torch.equal(after, plain)
    assert list(rounding.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in rounding.state_dict().items())
    model.load_state_dict(rounding.state_dict())
    assert torch.equal(model(clip).logits, plain)


def test_training_in_integers_leaves_a_plain_checkpoint(tiny_config: Callable[..., RunConfig]) -> None:
    settings = {"train.steps": 2, "optim.lr": 0.01}
    plain = load_classifier(fit(tiny_config(**settings, name="plain"), quiet=True).folder)
    found = load_classifier(fit(tiny_config(**settings, name="rounding", **{"train.integers": True}), quiet=True).folder)
    assert found.run["train"]["integers"] is True
    assert type(found.model.backbone.net.stem[0]) is type(plain.model.backbone.net.stem[0])  # type: ignore[union-attr, index]
    here, there = found.model.state_dict(), plain.model.state_dict()
    assert not all(torch.equal(value, there[name]) for name, value in here.items())
    assert np.isfinite([float(value.double().sum()) for value in here.values()]).all()
