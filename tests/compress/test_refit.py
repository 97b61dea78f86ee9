"""Layers of what is left of a detector fitted to the whole one's outputs: what is found again, what is told, and what cannot be."""

import copy
from collections.abc import Sequence

import pytest
import torch
from test_compressed_darknet import detector

from vidkd.base.errors import ConfigError
from vidkd.compress.compressed import described
from vidkd.compress.factorise import factorise
from vidkd.compress.graph import couplings, pieces_of
from vidkd.compress.prune import prune
from vidkd.compress.recipe import FactoriseConfig, PruneConfig, RefitConfig
from vidkd.compress.refit import filters_left, pairs_of, refit
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


def all_filters(net: Darknet) -> list[list[int]]:
    return [list(range(block.conv.out_channels)) for block in convolution_blocks(net)]


def filters_without(whole: Darknet, filters: Sequence[int]) -> list[list[int]]:
    """Of the first layer these are gone."""
    first, *others = all_filters(whole)
    return [[number for number in first if number not in filters], *others]


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
    refit(smaller, whole, filters_without(whole, [5]), pictures(), FREE)
    assert distance(smaller, whole) < 0.03 * before
    summed = second.conv.weight.detach()[:, [0, 1, 2, 3, 4, 6, 7]].clone()
    summed[:, 2] += second.conv.weight.detach()[:, 5]
    off = (list(convolution_blocks(smaller))[1].conv.weight.detach() - summed).abs().max()
    assert off < 0.03 * summed.abs().max(), "but for the pull towards what it was"


def test_filters_are_followed_through_pruning_fitting_and_factorising() -> None:
    whole = whole_detector("tiny_student")
    done = prune(whole, EXAMPLE, PruneConfig(ratio=0.3, scope="uniform"))
    filters = filters_left(all_filters(whole), whole, done.plan["kept"])
    weights = next(convolution_blocks(done.model)).conv.weight
    assert torch.equal(weights, next(convolution_blocks(whole)).conv.weight[filters[0]])
    refit(done.model, whole, filters, pictures(), FREE)
    again = prune(done.model, EXAMPLE, PruneConfig(ratio=0.3, scope="uniform"))
    left = filters_left(filters, done.model, again.plan["kept"])
    assert len(left[0]) < len(filters[0])
    assert set(left[0]) < set(filters[0])
    net = factorise(again.model, EXAMPLE, FactoriseConfig(method="channel", energy=0.9)).model
    assert [pair.kept.tolist() for pair in pairs_of(net, whole, left)] == left
    before = distance(net, whole)
    refit(net, whole, left, pictures(), RefitConfig())
    assert distance(net, whole) < before


def test_of_a_product_the_last_factor_is_fitted() -> None:
    whole = whole_detector("tiny_student")
    net = factorise(whole, EXAMPLE, FactoriseConfig(method="channel", energy=0.9)).model
    pairs = pairs_of(net, whole, all_filters(whole))
    assert [pair.whole for pair in pairs] == list(convolution_blocks(whole))
    assert len(list(convolution_blocks(net))) > len(pairs)
    assert all(pair.block.conv.out_channels == pair.whole.conv.out_channels == len(pair.kept) for pair in pairs)
    before = distance(net, whole)
    inner = next(convolution_blocks(net)).conv.weight.clone()
    refit(net, whole, all_filters(whole), pictures(), RefitConfig())
    assert distance(net, whole) < before
    assert torch.equal(next(convolution_blocks(net)).conv.weight, inner)


def test_another_network_cannot_be_fitted() -> None:
    whole = whole_detector("tiny_student")
    with pytest.raises(ConfigError, match=r"(?s)are not those that were left of a network with.*before anything is trained"):
        pairs_of(detector("small_oracle"), whole, all_filters(whole))
    with pytest.raises(ConfigError, match="are not those that were left"):
        pairs_of(without_filters(whole, "layers.0.conv", [5]), whole, all_filters(whole))
