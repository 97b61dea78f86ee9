import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from zeroed_filters import lively, switch_off

from vidkd.base.errors import ConfigError
from vidkd.compress.factorise import factorise
from vidkd.compress.prune import prune
from vidkd.compress.recipe import FactoriseConfig, PruneConfig
from vidkd.models.darknet import Darknet, load_weights, parse_cfg, read_cfg, save_weights, to_cfg, with_added_head
from vidkd.models.darknet.cfg import Convolutional, Route
from vidkd.models.macs import network_cost

CONFIGS = Path(__file__).parents[2] / "configs" / "darknet"
NAMES = ("tiny_student", "yolov3_tiny", "yolov4_tiny", "small_oracle")

# Depthwise convolutions, shortcuts and absolute numbers, as Yolo-Fastest has them.
DEPTHWISE = """
[net]
width=64
height=64
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=8
groups=8
size=3
stride=1
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=8
size=1
activation=linear
[shortcut]
from=-3
activation=linear
[maxpool]
size=2
stride=2
[convolutional]
batch_normalize=1
filters=12
size=3
dilation=2
pad=1
activation=relu
[route]
layers=-1,4
[convolutional]
filters=21
size=1
activation=linear
[yolo]
mask=0,1,2
anchors=4,4, 8,8, 16,16
classes=2
num=3
"""


def detector(name: str) -> Darknet:
    torch.manual_seed(0)
    config = parse_cfg(DEPTHWISE) if name == "depthwise" else read_cfg(CONFIGS / f"{name}.cfg").with_input_size(64, 64)
    return Darknet(config).eval()


def images(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def written_and_read(net: Darknet, folder: Path) -> Darknet:
    """Through the text of a cfg and a file of weights."""
    save_weights(net, folder / "net.weights")
    read = Darknet(parse_cfg(to_cfg(net.config)))
    load_weights(read, folder / "net.weights")
    return read.eval()


def assert_same_heads(net: Darknet, other: Darknet) -> None:
    with torch.no_grad():
        for here, there in zip(net(images()), other(images()), strict=True):
            assert torch.equal(here, there)


@pytest.mark.parametrize("name", [*NAMES, "depthwise"])
def test_filters_that_put_out_zero_go_without_a_trace_and_the_rest_is_written_as_cfg_and_weights(name: str, tmp_path: Path) -> None:
    net = lively(detector(name), images(2))
    assert switch_off(net, images())
    done = prune(net, images(), PruneConfig(ratio=0.5, criterion="norm_scale", scope="uniform"))
    before, after = (copy.deepcopy(each).double()(images().double()) for each in (net, done.model))
    assert [each.shape for each in after] == [each.shape for each in before]
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-11)
    assert network_cost(done.model, images()).parameters < 0.6 * network_cost(net, images()).parameters
    assert [head.anchors for head in done.model.heads] == [head.anchors for head in net.heads]
    assert_same_heads(done.model, written_and_read(done.model, tmp_path))


def test_the_heads_of_a_detector_are_excluded_without_being_named() -> None:
    net = detector("yolov3_tiny")
    done = prune(net, images(), PruneConfig(ratio=0.5))
    assert set(done.left) == {f"layers.{head.layer - 1}.conv" for head in net.heads}
    assert set(done.plan["layers"]) >= {"layers.0.conv", "layers.0.norm"}


def test_what_a_route_parts_is_excluded() -> None:
    net = detector("yolov4_tiny")
    parted = [index + layer.layers[0] for index, layer in enumerate(net.config.layers) if isinstance(layer, Route) and layer.groups > 1]
    done = prune(net, images(), PruneConfig(ratio=0.5, scope="uniform"))
    assert parted
    for index in parted:
        assert done.left[f"layers.{index}.conv"] == "a route parts it"
        here, there = net.config.layers[index], done.model.config.layers[index]
        assert isinstance(here, Convolutional)
        assert isinstance(there, Convolutional)
        assert here.filters == there.filters


@pytest.mark.parametrize("name", ["tiny_student", "depthwise"])
@pytest.mark.parametrize("method", ["channel", "tucker"])
def test_sections_of_low_rank_put_out_what_layers_of_low_rank_do(name: str, method: str, tmp_path: Path) -> None:
    net = lively(detector(name), images(2))
    done = factorise(net, images(), FactoriseConfig(method=method, energy=0.5))  # type: ignore[arg-type]
    assert network_cost(done.model, images()).macs < network_cost(net, images()).macs
    assert len(done.model.config.layers) == len(net.config.layers) + len(done.layers) * (1 if method == "channel" else 2)
    assert_same_heads(done.model, written_and_read(done.model, tmp_path))


@pytest.mark.parametrize("name", ["tiny_student", "depthwise"])
def test_a_darknet_of_exactly_low_rank_loses_nothing(name: str) -> None:
    net = lively(detector(name), images(2)).double()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d) and module.groups == 1:
                left, values, right = torch.linalg.svd(module.weight.flatten(1), full_matrices=False)
                values[max(1, len(values) // 4) :] = 0
                module.weight.copy_((left * values @ right).view_as(module.weight))
    done = factorise(net, images().double(), FactoriseConfig(energy=1.0))
    with torch.no_grad():
        torch.testing.assert_close(done.model(images().double()), net(images().double()), rtol=1e-8, atol=1e-8)
    assert network_cost(done.model, images().double()).macs < 0.7 * network_cost(net, images().double()).macs


def test_kernels_that_a_cfg_cannot_state_are_refused() -> None:
    with pytest.raises(ConfigError, match="square"):
        factorise(detector("tiny_student"), images(), FactoriseConfig(method="spatial", energy=0.5))


def test_an_added_head_is_left_whole() -> None:
    grown = with_added_head(detector("tiny_student"), filters=7)
    made = factorise(grown, images(), FactoriseConfig(energy=0.5))
    assert all(head.added is not None for head in made.model.heads)
    assert [place for place, why in made.left.items() if "added head" in why] == [
        f"layers.{place}.conv" for head in grown.heads for place in (head.added, head.layer - 1)
    ]
