import pytest
import torch
from reference_nets import CASES

from vidkd.models.darknet import Darknet
from vidkd.models.darknet.net import convolution_blocks, folded_norms

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def net(request) -> Darknet:
    return request.param.build().eval().double()


def within(net: Darknet, images: torch.Tensor) -> list[torch.Tensor]:
    with folded_norms(net):
        return net(images)


def gradients(net: Darknet, heads: list[torch.Tensor]) -> list[torch.Tensor]:
    return list(torch.autograd.grad(sum((head**2).sum() for head in heads), list(net.parameters())))


def test_heads_and_gradients_are_those_of_the_network(net: Darknet) -> None:
    images = torch.rand(2, 3, *net.input_size[::-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = net(images)
    folded = within(net, images)
    for expected, found in zip(own, folded, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    for expected, found in zip(gradients(net, own), gradients(net, folded), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7 * float(expected.abs().max()))


def test_in_training_mode_and_afterwards_nothing_is_folded() -> None:
    net = CASES[0].build().double().train()
    before = net.layers[0].norm.running_mean.clone()
    within(net, IMAGES)
    assert not torch.equal(net.layers[0].norm.running_mean, before), "the batch's own statistics are used and recorded"
    assert not any(block.folds for block in convolution_blocks(net))
