"""Layers of what is left of a detector fitted to the whole one's outputs: what is found again, what is told, and what cannot be."""

import copy
from collections.abc import Sequence

import pytest
import torch
from test_compressed_darknet import detector

from vidkd.base.errors import ConfigError
from vidkd.compress.config import FactoriseConfig, PruneConfig, RefitConfig
from vidkd.compress.darknet import described
from vidkd.compress.factorise import factorise
from vidkd.compress.graph import couplings
from vidkd.compress.prune import prune
from vidkd.compress.refit import check_told_apart, pairs_of, refit
from vidkd.compress.traced import pieces_of
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.net import convolution_blocks

EXAMPLE = torch.zeros(1, 3, 64, 64)
FREE = RefitConfig(ridge=1e-4)


def pictures(count: int = 8) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(3)
    return [torch.rand(1, 3, 64, 64, generator=noise) for _ in range(count)]


def whole_detector(name: str) -> Darknet:
    """With normalisations that tell filters apart."""
    net, noise = detector(name), torch.Generator().manual_seed(4)
    for block in convolution_blocks(net):
        if (norm := block.norm) is not None:
            for part, low in ((norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.2), (norm.running_var, 0.5)):
                part.data.uniform_(low, low + 1, generator=noise)
    return net


def without_filters(whole: Darknet, layer: str, filters: Sequence[int]) -> Darknet:
    net = copy.deepcopy(whole)
    next(each for each in couplings(pieces_of(net, EXAMPLE)) if each.name == layer).remove(filters)
    return described(net)


@torch.no_grad()
def distance(net: Darknet, other: Darknet) -> float:
    """Largest difference of their raw heads on pictures that nothing was fitted to."""
    return max(float((one - two).abs().max()) for image in pictures(11)[8:] for one, two in zip(net(image), other(image), strict=True))


def test_a_filter_that_has_a_twin_is_not_missed() -> None:
    """What its readers drew from it they can draw from the twin: the fit finds the sum of both weights, and the network is whole again."""
    whole = whole_detector("tiny_student")
    first, second = list(convolution_blocks(whole))[:2]
    for part in (first.conv.weight, *first.norm.state_dict().values()):
        if part.ndim:
            part.data[5] = part.data[2]
    smaller = without_filters(whole, "layers.0.conv", [5])
    before = distance(smaller, whole)
    refit(smaller, whole, pictures(), FREE)
    assert distance(smaller, whole) < 0.03 * before
    summed = second.conv.weight.detach()[:, [0, 1, 2, 3, 4, 6, 7]].clone()
    summed[:, 2] += second.conv.weight.detach()[:, 5]
    off = (list(convolution_blocks(smaller))[1].conv.weight.detach() - summed).abs().max()
    assert off < 0.03 * summed.abs().max(), "but for the pull towards what it was"


def test_filters_that_are_normalised_alike_cannot_be_told_apart() -> None:
    whole = whole_detector("tiny_student")
    first = next(convolution_blocks(whole))
    for part in first.norm.state_dict().values():
        if part.ndim:
            part.data[5] = part.data[2]
    assert len(pairs_of(copy.deepcopy(whole), whole)) == len(list(convolution_blocks(whole))), "all are left, so which is which is known"
    with pytest.raises(ConfigError, match=r"filters of layers\.0 are normalised alike"):
        refit(without_filters(whole, "layers.0.conv", [2]), whole, pictures(), FREE)


def test_what_was_fitted_is_found_again_after_pruning_and_factorising() -> None:
    whole = whole_detector("tiny_student")
    net = without_filters(whole, "layers.0.conv", [2, 5])
    refit(net, whole, pictures(), FREE)
    net = without_filters(net, "layers.0.conv", [3])
    assert pairs_of(net, whole)[0].kept.tolist() == [0, 1, 3, 6, 7]
    refit(net, whole, pictures(), FREE)
    net = factorise(net, EXAMPLE, FactoriseConfig(method="channel", ratio=0.5)).model
    assert pairs_of(net, whole)[0].kept.tolist() == [0, 1, 3, 6, 7]
    before = distance(net, whole)
    refit(net, whole, pictures(), RefitConfig())
    assert distance(net, whole) < before


def test_filters_that_differ_in_their_means_alone_are_known_once() -> None:
    whole = whole_detector("tiny_student")
    norm = next(convolution_blocks(whole)).norm
    for part in (norm.weight, norm.bias, norm.running_var):
        part.data[5] = part.data[2]
    net = without_filters(whole, "layers.0.conv", [2])
    assert pairs_of(net, whole)[0].kept.tolist() == [0, 1, 3, 4, 5, 6, 7]
    with pytest.raises(ConfigError, match=r"filters of layers\.0 are normalised alike, so a second `refit` could not find them"):
        check_told_apart(whole)
    refit(net, whole, pictures(2), FREE)
    with pytest.raises(ConfigError, match=r"filters of layers\.0 are normalised alike"):
        pairs_of(net, whole)
    check_told_apart(whole_detector("tiny_student"))


def test_a_filter_that_says_the_same_always_becomes_an_offset() -> None:
    whole = whole_detector("tiny_student")
    first = next(convolution_blocks(whole))
    first.norm.weight.data[3] = 0.0  # only its bias is left
    smaller = without_filters(whole, "layers.0.conv", [3])
    before = distance(smaller, whole)
    refit(smaller, whole, pictures(), FREE)
    # not exact: at the edges of the map, where zeros are padded, it said something else
    assert distance(smaller, whole) < 0.35 * before


@pytest.mark.parametrize("name", ["tiny_student", pytest.param("yolov4_tiny", marks=pytest.mark.slow), "depthwise"])
def test_a_network_that_lost_nothing_stays_what_it_is(name: str) -> None:
    whole = whole_detector(name)
    net = copy.deepcopy(whole)
    told = refit(net, whole, pictures(3), RefitConfig(rows=1.0))
    assert distance(net, whole) < 1e-3
    assert len(told) == len(list(convolution_blocks(net)))


@pytest.mark.parametrize("name", ["tiny_student", pytest.param("yolov4_tiny", marks=pytest.mark.slow), "depthwise"])
def test_every_layer_comes_nearer_on_what_it_is_fitted_to(name: str) -> None:
    whole = whole_detector(name)
    done = prune(whole, EXAMPLE, PruneConfig(ratio=0.3, criterion="l2", scope="uniform"))
    net, images = done.model, pictures()
    told = refit(net, whole, images, RefitConfig())
    errors = [tuple(map(float, text.removeprefix("error ").split(" -> "))) for text in told.values()]
    assert all(after <= before for before, after in errors)
    assert errors[-1][1] < 0.7 * errors[-1][0]


def test_of_a_product_the_last_factor_is_fitted() -> None:
    whole = whole_detector("tiny_student")
    net = factorise(whole, EXAMPLE, FactoriseConfig(method="channel", ratio=0.5)).model
    pairs = pairs_of(net, whole)
    assert [pair.whole for pair in pairs] == list(convolution_blocks(whole))
    assert len(list(convolution_blocks(net))) > len(pairs)
    assert all(pair.block.conv.out_channels == pair.whole.conv.out_channels == len(pair.kept) for pair in pairs)
    before = distance(net, whole)
    inner = next(convolution_blocks(net)).conv.weight.clone()
    refit(net, whole, pictures(), RefitConfig())
    assert distance(net, whole) < before
    assert torch.equal(next(convolution_blocks(net)).conv.weight, inner)


def test_filters_that_were_kept_are_found_by_their_normalisation() -> None:
    whole = whole_detector("yolov4_tiny")
    smaller = without_filters(whole, "layers.0.conv", [1, 7, 30])
    pairs = pairs_of(smaller, whole)
    assert pairs[0].kept.tolist() == [place for place in range(32) if place not in (1, 7, 30)]
    assert all(pair.kept.tolist() == list(range(pair.whole.conv.out_channels)) for pair in pairs[1:])


def test_what_has_learned_since_cannot_be_fitted() -> None:
    whole = whole_detector("tiny_student")
    smaller = without_filters(whole, "layers.0.conv", [5])
    next(convolution_blocks(smaller)).norm.bias.data += 0.1
    with pytest.raises(ConfigError, match=r"(?s)a filter of layers.0 is none of the whole network's.*before anything is trained"):
        refit(smaller, whole, pictures(1), FREE)
    with pytest.raises(ConfigError, match="cannot be those of a network with"):
        pairs_of(detector("small_oracle"), whole)


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"frames": 0}, "frames must be at least 1"),
        ({"rows": 0.5}, "rows must be at least 1"),
        ({"ridge": -1.0}, "ridge above 0"),
    ],
)
def test_settings_that_cannot_be(over: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        RefitConfig(**over)
