import dataclasses

import pytest
import torch
from reference_nets import CASES

from vidkd.compress.factorise import factorise
from vidkd.compress.recipe import FactoriseConfig
from vidkd.models.darknet import Darknet, load_weights, parse_cfg, save_weights, to_cfg, with_added_head

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> Darknet:
    return CASES[0].build().eval()


def test_it_begins_as_the_network_was(net: Darknet) -> None:
    grown = with_added_head(net, filters=7)
    with torch.no_grad():
        for raw, expected in zip(grown(IMAGES), net(IMAGES), strict=True):
            torch.testing.assert_close(raw, expected, rtol=1e-5, atol=1e-6)
        _, features = grown.features(IMAGES, grown.deep_layers)
        _, expected_features = net.features(IMAGES, net.deep_layers)
    assert not grown.training
    for layer, expected_layer in zip(grown.deep_layers, net.deep_layers, strict=True):
        assert torch.equal(features[layer], expected_features[expected_layer])
    assert net.deep_layers == (16, 21), "the network itself is as it was"
    assert not net.added_parameters()


def test_it_is_drawn_by_seed_and_leaves_the_generator_alone(net: Darknet) -> None:
    torch.manual_seed(5)
    first, drawn = with_added_head(net), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    kernels = [made.layers[made.heads[0].added].conv.weight for made in (first, with_added_head(net), with_added_head(net, seed=1))]
    assert torch.equal(kernels[0], kernels[1])
    assert not torch.equal(kernels[0], kernels[2])
    assert with_added_head(first) is first


def test_cfg_and_weights_say_it_all(net: Darknet, tmp_path) -> None:
    grown = with_added_head(net, filters=7)
    with torch.no_grad():
        for parameter in grown.added_parameters():
            parameter += 0.01
    save_weights(grown, tmp_path / "grown.weights")
    read = Darknet(parse_cfg(to_cfg(grown.config))).eval()
    load_weights(read, tmp_path / "grown.weights")
    assert len(read.added_parameters()) == len(grown.added_parameters()) == 8
    with torch.no_grad():
        for raw, expected in zip(read(IMAGES), grown(IMAGES), strict=True):
            assert torch.equal(raw, expected)


JOINED = """
[net]
width=32
height=32
channels=3
[convolutional]
filters=8
size=3
stride=8
pad=1
activation=leaky
[convolutional]
{norm}
filters=16
size={size}
stride=1
pad=1
activation=leaky
[route]
layers=-1,-2
{behind}
[convolutional]
filters=8
size=1
stride=1
activation=linear
[yolo]
mask=0
anchors=8,8
classes=3
num=1
"""


@pytest.mark.parametrize(
    ("parts", "added"),
    [
        ({}, 1),
        ({"norm": "batch_normalize=1"}, None),
        ({"size": 1}, None),
        ({"behind": "[convolutional]\nfilters=8\nsize=1\nstride=1\nactivation=leaky\n[route]\nlayers=-2"}, None),
    ],
)
def test_other_layers_that_are_joined_are_no_added_head(parts, added) -> None:
    net = Darknet(parse_cfg(JOINED.format(**{"norm": "", "size": 3, "behind": "", **parts})))
    assert net.heads[0].added == added
    assert (with_added_head(net) is net) == (added is not None)


def test_a_head_that_lacks_one_gets_it(net: Darknet) -> None:
    grown = with_added_head(net, filters=7)
    layers = list(grown.config.layers)
    layers[grown.heads[0].added] = dataclasses.replace(layers[grown.heads[0].added], activation="relu")
    other = Darknet(dataclasses.replace(grown.config, layers=tuple(layers))).eval()
    assert [head.added is None for head in other.heads] == [True, False]
    whole = with_added_head(other, filters=5)
    assert [whole.config.layers[head.added].filters for head in whole.heads] == [5, 7]
    with torch.no_grad():
        for raw, expected in zip(whole(IMAGES), other(IMAGES), strict=True):
            torch.testing.assert_close(raw, expected, rtol=1e-5, atol=1e-6)


def test_low_rank_leaves_it_whole(net: Darknet) -> None:
    grown = with_added_head(net, filters=7)
    made = factorise(grown, torch.zeros(1, 3, 64, 96), FactoriseConfig(energy=0.5))
    assert all(head.added is not None for head in made.model.heads)
    assert [place for place, why in made.left.items() if "added head" in why] == [
        f"layers.{place}.conv" for head in grown.heads for place in (head.added, head.layer - 1)
    ]
