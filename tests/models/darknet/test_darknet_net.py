from pathlib import Path

import pytest
import torch
from reference_nets import CASES, CONFIGS, EVERY_LAYER
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vidkd.base.errors import ConfigError
from vidkd.models.darknet import Darknet, count_numbers, parse_cfg

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> Darknet:
    return CASES[0].build()


def kinds(net: Darknet, parameters: list[Tensor]) -> list[int]:
    """Indices of the layers that hold these parameters."""
    owners = {id(parameter): index for index, layer in enumerate(net.layers) for parameter in layer.parameters()}
    return sorted({owners[id(parameter)] for parameter in parameters})


def test_raw_heads_have_the_channels_and_grids_of_their_heads(net: Darknet) -> None:
    raw = net(IMAGES)
    assert [tuple(head.shape) for head in raw] == [(2, 3 * 8, 4, 6), (2, 2 * 8, 8, 12)]
    assert (net.input_size, net.classes) == ((96, 64), 3)
    larger = net(torch.zeros(1, 3, 96, 160))
    assert [tuple(head.shape) for head in larger] == [(1, 24, 6, 10), (1, 16, 12, 20)]


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
        assert torch.equal(net.head_convolution(head)(features[head.source]), raw)


@pytest.mark.parametrize("shape", [(3, 64, 96), (1, 1, 64, 96), (1, 3, 60, 96), (1, 3, 64, 88)])
def test_images_that_do_not_fit(net: Darknet, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\) with H and W multiples of 16"):
        net(torch.zeros(shape))


@pytest.mark.parametrize("layer", [-1, 24])
def test_features_of_no_layer(net: Darknet, layer: int) -> None:
    with pytest.raises(ValueError, match="indices from 0 to 23"):
        net.features(IMAGES, (layer,))


def test_the_last_blocks_are_counted_from_the_heads() -> None:
    net = Darknet.from_cfg(CONFIGS / "yolov3_tiny.cfg", classes=1)
    assert kinds(net, net.head_parameters()) == [15, 22]
    assert kinds(net, net.last_parameters(2)) == [14, 15, 21, 22]
    # layer 13 feeds both heads: the longer way, over 18 and 21, counts
    assert kinds(net, net.last_parameters(3)) == [14, 15, 18, 21, 22]
    assert kinds(net, net.last_parameters(4)) == [13, 14, 15, 18, 21, 22]
    assert len(net.last_parameters(100)) == len(list(net.parameters()))
    assert [id(each) for each in net.last_parameters(100)] == [id(each) for each in net.parameters()]
    with pytest.raises(ValueError, match="at least 1: 0"):
        net.last_parameters(0)


@pytest.mark.parametrize("name", ["yolov4_tiny", "small_oracle"])
@pytest.mark.parametrize("blocks", [1, 3, 6])
def test_whatever_reads_a_listed_block_is_listed(name: str, blocks: int) -> None:
    net = Darknet.from_cfg(CONFIGS / f"{name}.cfg", classes=1, input_size=(32, 32)).eval()
    listed = {id(parameter) for parameter in net.last_parameters(blocks)}
    for parameter in net.parameters():
        parameter.requires_grad_(id(parameter) in listed)
    _, features = net.features(torch.rand(1, 3, 32, 32), range(len(net.layers)))
    reached = [index for index, output in features.items() if output.requires_grad]
    assert all(not _is_frozen(net.layers[index]) for index in reached), "a frozen block behind a trained one"


def _is_frozen(layer: torch.nn.Module) -> bool:
    parameters = list(layer.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def test_frozen_statistics_stay_while_weights_learn(net: Darknet) -> None:
    norms = [layer.norm for layer in net.layers if getattr(layer, "norm", None) is not None]
    before = [norm.running_mean.clone() for norm in norms]
    net.train()
    assert net.freeze_norm_statistics() is net
    sum(head.square().mean() for head in net(IMAGES)).backward()
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert all(norm.weight.grad.abs().sum() > 0 for norm in norms)
    assert net.layers[3].training  # dropout still drops
    net.train()(IMAGES)
    assert not any(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))


def test_every_parameter_learns(net: Darknet) -> None:
    sum(head.square().mean() for head in net.train()(IMAGES)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_a_fresh_head_expects_few_objects() -> None:
    torch.manual_seed(0)
    net = Darknet(parse_cfg(EVERY_LAYER))
    for head in net.heads:
        bias = net.head_convolution(head).bias.view(len(head.anchors), 8)
        torch.testing.assert_close(bias[:, 4].sigmoid(), torch.full((len(head.anchors),), 0.01))
        assert (bias[:, [0, 1, 2, 3, 5, 6, 7]] == 0).all()


def test_a_head_may_be_normalised() -> None:
    text = EVERY_LAYER.replace("filters=24\n", "filters=24\nbatch_normalize=1\n")
    net = Darknet(parse_cfg(text)).eval()
    assert net.layers[17].conv.bias is None
    assert net.layers[17].norm.bias.view(3, 8)[:, 4].sigmoid().tolist() == [pytest.approx(0.01)] * 3
    assert len(net.head_parameters()) == 3 + 2


# numbers: (size of the published weights file - 20 bytes of header) / 4
@pytest.mark.parametrize(
    ("name", "numbers", "strides"),
    [("yolov3", 62001757, [32, 16, 8]), ("yolov3_tiny", 8858734, [32, 16]), ("yolov4_tiny", 6062814, [32, 16])],
)
def test_the_cfgs_of_published_networks_want_as_many_numbers_as_their_weights_hold(name: str, numbers: int, strides: list[int]) -> None:
    with torch.device("meta"):
        net = Darknet.from_cfg(CONFIGS / f"{name}.cfg")
    assert count_numbers(net) == numbers
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


def test_classes_and_input_size_in_place_of_those_of_the_cfg() -> None:
    net = Darknet.from_cfg(CONFIGS / "tiny_student.cfg", classes=2, input_size=(96, 64))
    assert (net.classes, net.input_size) == (2, (96, 64))
    assert [tuple(head.shape) for head in net(torch.zeros(1, 3, 64, 96))] == [(1, 21, 4, 6), (1, 21, 8, 12)]


def test_an_input_size_that_the_grid_does_not_divide() -> None:
    with pytest.raises(ConfigError, match=r"(?s)joins 16x12x14 and 32x12x13.*multiples of the largest stride"):
        Darknet.from_cfg(CONFIGS / "tiny_student.cfg", input_size=(100, 96))


@pytest.mark.data
@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"])
def test_published_cfgs_build(name: str, real_data: Path) -> None:
    net = Darknet.from_cfg(real_data / "weights" / "yolo_fastest" / f"{name}.cfg")
    assert [(head.stride, head.mask) for head in net.heads] == [(32, (3, 4, 5)), (16, (0, 1, 2))]
    assert len(net.layers) == 131
