import torch
from torch import nn

from vidkd.compress.norm_statistics import measure_norms


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.Dropout(0.5))
    return net.double().eval()


def batches(count: int) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(1)
    return [torch.randn(6, 3, 7, 7, generator=noise, dtype=torch.float64) * (place + 1) for place in range(count)]


def test_statistics_are_those_of_the_batches_and_nothing_else_changes() -> None:
    net, given = network(), batches(3)
    weights = {name: value.clone() for name, value in net.named_parameters()}
    measure_norms(net, given)
    first, second = net[1], net[4]
    seen = [net[0](batch) for batch in given]
    torch.testing.assert_close(first.running_mean, torch.stack([one.mean((0, 2, 3)) for one in seen]).mean(0))
    torch.testing.assert_close(first.running_var, torch.stack([one.var((0, 2, 3)) for one in seen]).mean(0))
    # behind the first, by the statistics of the batch at hand, so that what comes later is measured as it will be
    normed = [nn.functional.batch_norm(one, None, None, first.weight, first.bias, training=True, eps=first.eps) for one in seen]
    deeper = [net[3](one.relu()) for one in normed]
    torch.testing.assert_close(second.running_mean, torch.stack([one.mean((0, 2, 3)) for one in deeper]).mean(0))
    assert all(torch.equal(value, weights[name]) for name, value in net.named_parameters())
    assert not any(module.training for module in net.modules())
    assert first.momentum == second.momentum == 0.1


def test_without_batches_statistics_stay() -> None:
    net = network()
    net[1].running_mean.fill_(3.0)
    measure_norms(net, [])
    assert bool((net[1].running_mean == 3).all())


def test_a_network_whose_filters_went_puts_out_what_it_did_in_scale() -> None:
    net, given = network(), batches(2)
    measure_norms(net, given)
    with torch.no_grad():
        whole = net[:5](given[0])
        net[0].weight[2:] *= 0.1  # two filters all but gone
        net[0].bias[2:] *= 0.1
        broken = net[:5](given[0])
        measure_norms(net, given)
        measured = net[:5](given[0])
    assert (measured.std() - whole.std()).abs() < 0.1 * whole.std()
    assert (broken.std() - whole.std()).abs() > (measured.std() - whole.std()).abs()
