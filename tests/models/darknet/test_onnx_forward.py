"""ONNX Runtime's forward pass of a darknet network: equal to torch's, also after the weights have changed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from reference_nets import CASES, REAL, Case, picture

from vidkd.base.errors import ConfigError
from vidkd.models.darknet import Darknet, load_weights, parse_cfg
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.models.darknet.onnx import OnnxForward

TOLERANCE = 1e-4
CASE = CASES[0]


def images_for(net: Darknet, count: int = 2) -> torch.Tensor:
    width, height = net.input_size
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_as_torch(forward: OnnxForward, net: Darknet, images: torch.Tensor) -> None:
    with torch.inference_mode():
        expected, layers = net.eval().features(images, net.deep_layers)
    heads, pooled = forward(images)
    for found, wanted in zip(heads, expected, strict=True):
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() <= TOLERANCE * max(1.0, float(wanted.abs().max()))
    means = torch.cat([layers[layer].mean((2, 3)) for layer in net.deep_layers], 1)
    assert pooled.shape == means.shape
    assert (pooled - means).abs().max() <= TOLERANCE * max(1.0, float(means.abs().max()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_heads_and_features_are_those_of_torch(case: Case) -> None:
    net = case.build()
    assert_as_torch(OnnxForward(net), net, images_for(net))


@pytest.mark.parametrize("activation", ["relu6", "relu", "logistic", "swish", "mish", "leaky", "linear"])
@pytest.mark.parametrize("layer", ["convolutional", "shortcut"])
def test_every_activation(activation: str, layer: str) -> None:
    if layer == "shortcut" and activation == "relu6":
        activation = "relu"
    own = "activation=linear\n[shortcut]\nfrom=-2\n" if layer == "shortcut" else ""
    text = f"""
[net]\nwidth=32\nheight=32\nchannels=3
[convolutional]\nfilters=4\nsize=3\nstride=8\npad=1\nactivation=linear
[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\nstride=1\npad=1\n{own}activation={activation}
[convolutional]\nfilters=6\nsize=1\nactivation=linear
[yolo]\nmask=0\nanchors=8,8\nclasses=1\nnum=1
"""
    net = Darknet(parse_cfg(text)).eval()
    assert_as_torch(OnnxForward(net), net, 40 * images_for(net) - 20)


def changed_by_step(net: Darknet) -> None:
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    sum(head.square().mean() for head in net(images_for(net))).backward()
    optimiser.step()


def changed_by_loading(net: Darknet) -> None:
    net.load_state_dict({name: value * 1.1 if value.is_floating_point() else value for name, value in net.state_dict().items()})


@pytest.mark.parametrize("change", [changed_by_step, changed_by_loading])
def test_changed_weights_are_taken_at_the_next_call(change) -> None:
    net = CASE.build()
    forward, images = OnnxForward(net), images_for(CASE.build())
    before = forward(images)[0][0]
    for _ in range(3):
        change(net)
        assert_as_torch(forward, net, images)
    assert (forward(images)[0][0] - before).abs().max() > 0.01


def test_a_session_shares_no_memory_with_the_weights() -> None:
    """Weights that are being changed by a trainer must not show before they are taken."""
    net = CASE.build()
    forward, images = OnnxForward(net), images_for(net)
    before = forward(images)
    for value in net.state_dict().values():
        value.detach().numpy()[...] = 7  # past torch's count of changes
    np.testing.assert_array_equal(forward(images)[0][0], before[0][0])


def test_on_another_device() -> None:
    with pytest.raises(ConfigError, match="on a CPU only"):
        OnnxForward(CASE.build().to("meta"))


def test_a_detector_finds_the_same_in_either_runtime() -> None:
    frames = np.random.RandomState(3).randint(0, 256, (3, 50, 120, 3), np.uint8)
    names = ("cat", "dog", "bus")
    detectors = [DarknetDetector(CASE.build(), names, score_threshold=0.5, runtime=runtime) for runtime in ("eager", "onnx")]
    eager, onnx = (detector(frames) for detector in detectors)
    assert sum(map(len, eager)) > 15
    for one, other in zip(eager, onnx, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=2e-3)
    copied = detectors[1].copy()
    assert copied.runtime == "onnx"
    changed_by_step(detectors[1].net)
    np.testing.assert_array_equal(copied(frames)[0].scores, onnx[0].scores)


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(REAL))
def test_published_weights(name: str, real_data: Path) -> None:
    cfg, weights, size = REAL[name]
    net = Darknet.from_cfg(real_data / f"{cfg}.cfg")
    load_weights(net, real_data / f"{weights}.weights")
    assert_as_torch(OnnxForward(net), net, torch.from_numpy(picture(size)))
