import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from vidkd.models.darknet.blocks import Convolutional, Maxpool, Route, Shortcut
from vidkd.models.darknet.layers import ACTIVATION_MODULES, build_layer


def slow_maxpool(features: np.ndarray, size: int, stride: int, padding: int) -> np.ndarray:
    """One window after the other, padding // 2 to the left and above, what lies outside never the largest."""
    height, width = ((side + padding - size) // stride + 1 for side in features.shape)
    pooled = np.full((height, width), -np.inf, np.float32)
    for y, x, dy, dx in itertools.product(range(height), range(width), range(size), range(size)):
        row, column = y * stride + dy - padding // 2, x * stride + dx - padding // 2
        if 0 <= row < features.shape[0] and 0 <= column < features.shape[1]:
            pooled[y, x] = max(pooled[y, x], features[row, column])
    return pooled


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [(2, 2, 1), (2, 1, 1), (2, 2, 0), (3, 1, 2), (3, 2, 2), (5, 1, 4), (4, 2, 3), (6, 3, 5)],
)
@pytest.mark.parametrize("side", [7, 10])
def test_maxpool_is_darknets(size: int, stride: int, padding: int, side: int) -> None:
    features = -torch.rand(2, 3, side, side + 3, generator=torch.Generator().manual_seed(side)) - 1
    pooled = build_layer(Maxpool(size=size, stride=stride, padding=padding), 3)(features)
    slow = [[slow_maxpool(channel.numpy(), size, stride, padding) for channel in sample] for sample in features]
    np.testing.assert_array_equal(pooled.numpy(), np.array(slow))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [-2.0, 0.5, 7.0]),
        ("leaky", [-0.2, 0.5, 7.0]),
        ("relu", [0.0, 0.5, 7.0]),
        ("relu6", [0.0, 0.5, 6.0]),
        ("logistic", [0.1192029, 0.6224593, 0.9990889]),
        ("swish", [-0.2384058, 0.3112297, 6.9936226]),
        ("mish", [-0.2525015, 0.3752454, 6.9999883]),
    ],
)
def test_activations(name: str, expected: list[float]) -> None:
    torch.testing.assert_close(ACTIVATION_MODULES[name]()(torch.tensor([-2.0, 0.5, 7.0])), torch.tensor(expected), rtol=0, atol=1e-6)


def ramp(*shape: int) -> Tensor:
    return torch.arange(float(np.prod(shape))).reshape(shape)


def test_dilation_spreads_kernel_and_padding() -> None:
    layer = build_layer(Convolutional(filters=1, size=3, padding=1, dilation=2, activation="linear"), 1)
    layer.conv.weight.data.copy_(ramp(1, 1, 3, 3) + 1)
    layer.conv.bias.data.fill_(0.5)
    single = torch.zeros(1, 1, 5, 5)
    single[0, 0, 2, 2] = 1
    out = layer(single)[0, 0].detach()
    assert out.shape == (5, 5)
    assert torch.equal(out[::2, ::2], torch.flip(ramp(3, 3) + 1, (0, 1)) + 0.5)
    assert (out[1::2] == 0.5).all()


def test_batch_normalisation_is_between_convolution_and_activation() -> None:
    layer = build_layer(Convolutional(batch_normalize=True, filters=1, activation="leaky"), 1).eval()
    layer.conv.weight.data.fill_(2)
    for tensor, value in ((layer.norm.running_mean, 3.0), (layer.norm.running_var, 4.0), (layer.norm.weight, 10.0), (layer.norm.bias, 1.0)):
        tensor.data.fill_(value)
    assert layer.conv.bias is None
    # (2x - 3) / 2 * 10 + 1, then the slope of 0.1 below zero
    expected = torch.tensor([6.0, -1.4]).view(1, 1, 1, 2)
    torch.testing.assert_close(layer(torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)), expected, rtol=1e-5, atol=1e-5)


def test_route_takes_the_same_part_of_each_input() -> None:
    first, second = ramp(1, 4, 1, 1), ramp(1, 2, 1, 1) + 10
    assert build_layer(Route(layers=(-1, -2), groups=2, group_id=1), 4)(first, second).flatten().tolist() == [2, 3, 11]
    assert build_layer(Route(layers=(-1, -2)), 4)(first, second).flatten().tolist() == [0, 1, 2, 3, 10, 11]


def test_shortcut_activates_the_sum() -> None:
    out = build_layer(Shortcut(from_layer=-2, activation="relu"), 2)(torch.tensor([1.0, 1.0]), torch.tensor([1.0, -3.0]))
    assert out.tolist() == [2.0, 0.0]
