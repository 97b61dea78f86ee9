import pytest
import torch
from torch import Tensor, nn

from vidkd.compress.graph import Coupling, couplings, pieces_of
from vidkd.compress.importance import scores


class Residual(nn.Module):
    """Two convolutions whose outputs are added, so that they must lose the same filters, and one that reads them."""

    def __init__(self, *, norm: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.norm(self.first(images) + self.second(images)))


def free(net: nn.Module) -> list[Coupling]:
    return [each for each in couplings(pieces_of(net, torch.randn(1, 2, 4, 4))) if each.excluded is None]


def made(*, norm: bool = True) -> Residual:
    torch.manual_seed(0)
    net = Residual(norm=norm).eval()
    if norm:
        for values in (net.norm.weight, net.norm.bias, net.norm.running_mean):
            nn.init.normal_(values)
    return net


@pytest.mark.parametrize(("criterion", "power"), [("l1", 1), ("l2", 2)])
def test_norms_are_averaged_over_the_layers_of_a_coupling_and_compared_with_its_mean(criterion: str, power: int) -> None:
    net = made()
    found = scores(net, free(net), criterion)  # type: ignore[arg-type]
    sizes = [(layer.weight.detach().double().abs() ** power).mean((1, 2, 3)) ** (1 / power) for layer in (net.first, net.second)]
    expected = sum(sizes) / 2
    ((name, values),) = found.items()
    assert name in ("first", "second")
    torch.testing.assert_close(values, expected / expected.mean())


def test_norm_scale_is_the_magnitude_of_gamma() -> None:
    net = made()
    (values,) = scores(net, free(net), "norm_scale").values()
    torch.testing.assert_close(values, net.norm.weight.detach().double().abs())
    plain = made(norm=False)
    assert scores(plain, free(plain), "norm_scale") == {}


@pytest.mark.parametrize("norm", [True, False])
def test_taylor_is_the_squared_change_of_a_loss_that_is_linear_in_the_filter(norm: bool) -> None:
    net, generator = made(norm=norm), torch.Generator().manual_seed(1)
    batches = [torch.randn(3, 2, 4, 4, generator=generator) for _ in range(2)]
    weight = torch.randn(3, 2, 4, 4, generator=generator)

    def losses(net: nn.Module) -> list[Tensor]:
        return [(net(batch) * weight).sum() for batch in batches]

    (values,) = scores(net, free(net), "taylor", losses=losses).values()
    full, changes = losses(net), []
    for filter_ in range(3):
        without = made(norm=norm)
        with torch.no_grad():
            for layer in [without.norm] if norm else [without.first, without.second]:
                layer.weight[filter_] = 0
                layer.bias[filter_] = 0
        changes.append(sum((there - here).square() for there, here in zip(losses(without), full, strict=True)) / 2)
    torch.testing.assert_close(values, torch.stack(changes).detach().double(), rtol=1e-3, atol=1e-3)


def test_random_is_drawn_from_its_seed() -> None:
    net = made()
    first, again, other = (next(iter(scores(net, free(net), "random", seed=seed).values())) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
