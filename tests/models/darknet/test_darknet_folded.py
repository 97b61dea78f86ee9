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


def test_weights_and_statistics_are_those_of_the_moment() -> None:
    net = CASES[0].build().eval().double()
    with torch.no_grad():
        for value in (*net.parameters(), *(buffer for name, buffer in net.named_buffers() if name.endswith("running_var"))):
            value.mul_(1.1)
    for expected, found in zip(net(IMAGES), within(net, IMAGES), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_parameters_that_stay_take_no_gradient_and_the_network_is_left_as_it_was() -> None:
    net = CASES[0].build().eval().double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trained = {id(parameter) for parameter in net.last_parameters(2)}
    for parameter in net.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    sum(head.sum() for head in within(net, IMAGES)).backward()
    assert all((parameter.grad is not None) == (id(parameter) in trained) for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_in_training_mode_and_afterwards_nothing_is_folded() -> None:
    net = CASES[0].build().double().train()
    before = net.layers[0].norm.running_mean.clone()
    within(net, IMAGES)
    assert not torch.equal(net.layers[0].norm.running_mean, before), "the batch's own statistics are used and recorded"
    assert not any(block.folds for block in convolution_blocks(net))
