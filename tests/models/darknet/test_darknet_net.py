import dataclasses

import pytest
import torch
from reference_nets import CASES, CONFIGS, EVERY_LAYER
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vidkd.base.errors import ConfigError
from vidkd.models.darknet import Darknet, load_weights, parse_cfg, save_weights, to_cfg, with_added_head
from vidkd.models.darknet.net import convolution_blocks, folded_norms
from vidkd.models.darknet.weights import weight_tensors

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> Darknet:
    return CASES[0].build()


def kinds(net: Darknet, parameters: list[Tensor]) -> list[int]:
    """Indices of the layers that hold these parameters."""
    owners = {id(parameter): index for index, layer in enumerate(net.layers) for parameter in layer.parameters()}
    return sorted({owners[id(parameter)] for parameter in parameters})


def test_features_come_from_the_same_pass_and_are_what_the_layers_put_out(net: Darknet) -> None:
    caught: dict[int, Tensor] = {}
    for index in (0, 4, 12, 16):
        net.layers[index].register_forward_hook(lambda _module, _inputs, output, index=index: caught.setdefault(index, output.clone()))
    heads, features = net.features(IMAGES, (0, 4, 12, 16))
    assert list(features) == [0, 4, 12, 16]
    assert all(torch.equal(features[index], caught[index]) for index in caught)
    assert all(torch.equal(first, second) for first, second in zip(heads, net(IMAGES), strict=True))


def test_deep_layers_are_what_the_heads_read(net: Darknet) -> None:
    assert net.deep_layers == (16, 21)
    heads, features = net.features(IMAGES, net.deep_layers)
    for head, raw in zip(net.heads, heads, strict=True):
        assert torch.equal(net.layers[head.layer - 1].conv(features[head.source]), raw)


def test_the_last_blocks_are_counted_from_the_heads() -> None:
    net = Darknet.from_cfg(CONFIGS / "yolov3_tiny.cfg", classes=1)
    assert kinds(net, net.head_parameters()) == [15, 22]
    assert kinds(net, net.last_parameters(2)) == [14, 15, 21, 22]
    # layer 13 feeds both heads: the longer way, over 18 and 21, counts
    assert kinds(net, net.last_parameters(3)) == [14, 15, 18, 21, 22]
    assert kinds(net, net.last_parameters(4)) == [13, 14, 15, 18, 21, 22]
    assert len(net.last_parameters(100)) == len(list(net.parameters()))
    assert [id(each) for each in net.last_parameters(100)] == [id(each) for each in net.parameters()]


def test_a_fresh_head_expects_few_objects() -> None:
    torch.manual_seed(0)
    net = Darknet(parse_cfg(EVERY_LAYER))
    for head in net.heads:
        bias = net.layers[head.layer - 1].conv.bias.view(len(head.anchors), 8)
        torch.testing.assert_close(bias[:, 4].sigmoid(), torch.full((len(head.anchors),), 0.01))
        assert (bias[:, [0, 1, 2, 3, 5, 6, 7]] == 0).all()


# numbers: (size of the published weights file - 20 bytes of header) / 4
@pytest.mark.parametrize(
    ("name", "numbers", "strides"),
    [("yolov3", 62001757, [32, 16, 8]), ("yolov3_tiny", 8858734, [32, 16]), ("yolov4_tiny", 6062814, [32, 16])],
)
def test_the_cfgs_of_published_networks_want_as_many_numbers_as_their_weights_hold(name: str, numbers: int, strides: list[int]) -> None:
    with torch.device("meta"):
        net = Darknet.from_cfg(CONFIGS / f"{name}.cfg")
    assert sum(tensor.numel() for _, tensor in weight_tensors(net)) == numbers
    assert [head.stride for head in net.heads] == strides
    assert (net.input_size, net.classes) == ((416, 416), 80)


@pytest.mark.parametrize(("name", "most"), [("tiny_student", 30e6), ("small_oracle", 150e6)])
def test_the_nets_of_the_demo_are_small(name: str, most: float) -> None:
    path = CONFIGS / f"{name}.cfg"
    text, macs = path.read_text(), {}
    for side in (112, 160):
        net = Darknet.from_cfg(path, input_size=(side, side)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.zeros(1, 3, side, side))
        macs[side] = counter.get_total_flops() / 2
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert f"{parameters} parameters, {macs[112] / 1e6:.0f} million multiply-adds a frame of 112x112" in text
    assert f", {macs[160] / 1e6:.0f} at the size below" in text
    assert net.config.net.width == 160
    assert macs[160] <= most


def test_an_input_size_that_the_grid_does_not_divide() -> None:
    with pytest.raises(ConfigError, match=r"(?s)\[route\] cannot read 16x12x14 and 32x12x13.*multiples of the largest stride"):
        Darknet.from_cfg(CONFIGS / "tiny_student.cfg", input_size=(100, 96))


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def double_net(request) -> Darknet:
    return request.param.build().eval().double()


def within(net: Darknet, images: torch.Tensor) -> list[torch.Tensor]:
    with folded_norms(net):
        return net(images)


def gradients(net: Darknet, heads: list[torch.Tensor]) -> list[torch.Tensor]:
    return list(torch.autograd.grad(sum((head**2).sum() for head in heads), list(net.parameters())))


def test_heads_and_gradients_are_those_of_the_network(double_net: Darknet) -> None:
    images = torch.rand(2, 3, *double_net.input_size[::-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = double_net(images)
    folded = within(double_net, images)
    for expected, found in zip(own, folded, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    for expected, found in zip(gradients(double_net, own), gradients(double_net, folded), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7 * float(expected.abs().max()))


def test_in_training_mode_and_afterwards_nothing_is_folded() -> None:
    net = CASES[0].build().double().train()
    before = net.layers[0].norm.running_mean.clone()
    within(net, IMAGES.double())
    assert not torch.equal(net.layers[0].norm.running_mean, before), "the batch's own statistics are used and recorded"
    assert not any(block.folds for block in convolution_blocks(net))


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
