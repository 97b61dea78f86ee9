import pytest
import tensorly
import torch
from tensorly.decomposition import partial_tucker
from torch import nn

from vidkd.compress.decompose import decompose, fill
from vidkd.compress.factorise import macs_of
from vidkd.models.low_rank import METHODS, Method, full_ranks, low_rank, refusal
from vidkd.models.macs import network_cost

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv2d": (nn.Conv2d(5, 7, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 5, 9, 8)),
    "conv3d": (nn.Conv3d(4, 6, (3, 3, 2), stride=(2, 1, 2), padding=(1, 1, 0), bias=False), (2, 4, 5, 6, 7)),
    "time alone": (nn.Conv3d(4, 3, (3, 1, 1), padding=(1, 0, 0)), (1, 4, 5, 3, 3)),
    "pointwise": (nn.Conv2d(6, 4, 1), (1, 6, 3, 3)),
    "linear": (nn.Linear(6, 9), (2, 3, 6)),
}
CASES = [(name, method) for name in LAYERS for method in METHODS if name != "linear" or method == "channel"]


def replaced(layer: nn.Module, method: Method, ranks: tuple[int, ...]) -> nn.Module:
    made = low_rank(layer, method, ranks)  # type: ignore[arg-type]
    fill(made, decompose(layer, method), ranks, layer.bias)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(("name", "method"), CASES)
def test_full_rank_is_exact(name: str, method: Method) -> None:
    torch.manual_seed(0)
    layer, shape = LAYERS[name]
    layer = layer.double()
    values = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(replaced(layer, method, full_ranks(layer, method))(values), layer(values), rtol=1e-10, atol=1e-10)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_costs_are_those_of_the_layers_that_are_built(name: str, method: Method) -> None:
    layer, shape = LAYERS[name]
    layer, values = layer.float(), torch.randn(shape)
    ranks = tuple(max(1, full // 2) for full in full_ranks(layer, method))  # type: ignore[arg-type]
    macs = macs_of(layer, method, [(values.shape, layer(values).shape)] * 2, ranks)  # type: ignore[arg-type]
    assert macs == 2 * network_cost(replaced(layer, method, ranks), values).macs


@pytest.mark.parametrize(("name", "method"), [case for case in CASES if case[1] in ("channel", "spatial")])
def test_the_error_is_the_tail_of_the_singular_values(name: str, method: Method) -> None:
    layer, _ = LAYERS[name]
    layer = layer.double()
    found = decompose(layer, method)  # type: ignore[arg-type]
    for rank in range(1, len(found.kept) + 1):
        first, second = found.weights((rank,))
        error = (product(first, second) - layer.weight).square().sum() / layer.weight.square().sum()
        assert error.item() == pytest.approx(1 - found.kept[rank - 1].item(), abs=1e-12)
    assert found.kept[-1].item() == pytest.approx(1, abs=1e-12)


def product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The one weight that two layers amount to; kernels are disjoint, so they multiply by broadcasting."""
    return torch.einsum("ri...,ro...->oi...", first, second.transpose(0, 1))


def test_tucker_keeps_what_its_core_holds_and_is_near_the_best() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, 3).double()
    # an energy that falls off, as trained weights have it
    with torch.no_grad():
        layer.weight.mul_(torch.linspace(1, 0.05, 8, dtype=torch.float64).view(-1, 1, 1, 1))
    found = decompose(layer, "tucker")
    tensorly.set_backend("pytorch")
    for ranks in ((1, 1), (3, 2), (5, 6), (8, 6)):
        into, core, out = found.weights(ranks)
        one = torch.einsum("or,rskl,si->oikl", out.flatten(1), core, into.flatten(1))
        error = (one - layer.weight).square().sum() / layer.weight.square().sum()
        assert error.item() == pytest.approx(1 - found.kept[ranks[0] - 1, ranks[1] - 1].item(), abs=1e-12)
        ((best_core, factors), _) = partial_tucker(layer.weight.detach(), rank=list(ranks), modes=[0, 1], init="svd", n_iter_max=100)
        best = torch.einsum("or,rskl,is->oikl", factors[0], best_core, factors[1])
        least = (best - layer.weight).square().sum() / layer.weight.square().sum()
        assert least - 1e-12 <= error <= 2 * least + 1e-12


def test_a_weight_of_zeros_is_kept_by_any_rank() -> None:
    layer = nn.Conv2d(3, 4, 3)
    nn.init.zeros_(layer.weight)
    for method in METHODS:
        found = decompose(layer, method)
        assert all(found.kept_at(ranks) == 1 for ranks in found.ranks_worth_trying())
        assert all(bool(torch.isfinite(part).all()) for part in found.weights((1,) * len(found.full)))


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "groups"),
        (nn.Conv2d(4, 4, 3, padding="same"), "pads"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "pads"),
        (nn.ConvTranspose2d(4, 4, 3), "neither"),
    ],
)
def test_what_has_no_form_of_low_rank_says_why(layer: nn.Module, text: str) -> None:
    reason = refusal(layer)
    assert reason is not None
    assert text in reason
