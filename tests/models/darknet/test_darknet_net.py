import pytest
import torch
from reference_nets import CASES, CONFIGS, EVERY_LAYER
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vidkd.base.errors import ConfigError
from vidkd.models.darknet import Darknet, parse_cfg
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
