import itertools

import pytest
import tensorly
import torch
from tensorly.decomposition import parafac
from torch import nn

from vidkd.compress.cp import CanonicalPolyadic, alternating_least_squares
from vidkd.compress.decompose import decompose, fill
from vidkd.compress.ranks import Costs, by_energy, by_ratio
from vidkd.models.low_rank import low_rank


def error(whole: torch.Tensor, factors: tuple[torch.Tensor, ...]) -> float:
    """Share of the squared weight that the products miss."""
    products = torch.einsum("or,ir,kr->oik", *factors)
    return float((whole - products).square().sum() / whole.square().sum())


def weight(*shape: int, seed: int = 0) -> torch.Tensor:
    """A weight whose filters matter less and less, as trained ones do."""
    noise = torch.Generator().manual_seed(seed)
    fading = torch.linspace(1, 0.05, shape[0], dtype=torch.float64).view(-1, *[1] * (len(shape) - 1))
    return torch.randn(shape, generator=noise, dtype=torch.float64) * fading


def test_a_sum_of_few_products_is_found_again() -> None:
    noise = torch.Generator().manual_seed(1)
    whole = torch.einsum("or,ir,kr->oik", *(torch.randn(size, 3, generator=noise, dtype=torch.float64) for size in (8, 7, 9)))
    assert error(whole, alternating_least_squares(whole, 3)) < 1e-5
    assert error(whole, alternating_least_squares(whole, 2)) > 1e-2


@pytest.mark.filterwarnings("ignore:Trying to compute SVD")
@pytest.mark.parametrize("rank", [1, 4, 12, 30])
def test_the_fit_is_as_near_as_that_of_another_library(rank: int) -> None:
    whole = weight(8, 6, 9)
    with tensorly.backend_context("numpy"):
        # its own start from singular vectors has random ones too beyond as many as there are
        scales, factors = parafac(whole.numpy(), rank, n_iter_max=200, init="svd", tol=1e-8, random_state=0)
        other = torch.as_tensor(tensorly.cp_to_tensor((scales, factors)))
    theirs = float((whole - other).square().sum() / whole.square().sum())
    assert error(whole, alternating_least_squares(whole, rank)) < 1.05 * theirs + 1e-3


def test_rank_one_of_a_matrix_is_its_largest_singular_value() -> None:
    whole = weight(6, 5)[:, :, None]
    values = torch.linalg.svdvals(whole[:, :, 0]).square()
    assert CanonicalPolyadic(whole).kept_at((1,)) == pytest.approx(float(values[0] / values.sum()), abs=1e-5)


def test_what_is_said_to_be_kept_is_kept_and_more_products_keep_more() -> None:
    layer = nn.Conv3d(6, 8, (3, 3, 2)).double()
    with torch.no_grad():
        layer.weight.copy_(weight(*layer.weight.shape))
    found = decompose(layer, "cp")
    kept = []
    for (rank,) in found.ranks_worth_trying():
        into, depthwise, out = found.weights((rank,))
        whole = torch.einsum("or,rtyx,ri->oityx", out.flatten(1), depthwise[:, 0], into.flatten(1))
        kept.append(found.kept_at((rank,)))
        missed = (whole - layer.weight).square().sum() / layer.weight.square().sum()
        assert missed.item() == pytest.approx(1 - kept[-1], abs=1e-9)
    assert all(more > less for less, more in itertools.pairwise(kept))
    assert kept[-1] == pytest.approx(1, abs=1e-12)
    assert found.ranks_worth_trying()[-1] == found.full == (6 * 8,)


def test_fits_repeat_and_share_their_length_over_the_layers() -> None:
    whole = weight(8, 6, 9)
    one, two = (alternating_least_squares(whole, 20) for _ in range(2))
    assert all(torch.equal(here, there) for here, there in zip(one, two, strict=True))
    lengths = [factor.norm(dim=0) for factor in one]
    torch.testing.assert_close(lengths[0], lengths[1])
    torch.testing.assert_close(lengths[1], lengths[2])


def test_energy_takes_the_least_rank_tried_that_keeps_it_and_a_ratio_is_of_the_full_rank() -> None:
    found = CanonicalPolyadic(weight(8, 6, 3, 3))
    for energy in (0.3, 0.7, 0.95, 1.0):
        choice = by_energy(found, Costs(one=10), energy)
        enough = [ranks for ranks in found.ranks_worth_trying() if found.kept_at(ranks) >= energy - 1e-12]
        assert choice.ranks == enough[0]
        assert choice.macs == 10 * choice.ranks[0]
    assert found.full == (48,)
    assert by_ratio(found, Costs(one=1), 0.26).ranks == (13,)


def test_layers_of_a_strided_convolution_come_near_what_it_puts_out() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, 3, stride=(2, 1), padding=1, dilation=(1, 2)).double()
    layer.requires_grad_(False)
    values = torch.randn(2, 6, 9, 9, dtype=torch.float64)
    whole = layer(values)
    missed = []
    for rank in (4, 16, 40):
        made = low_rank(layer, "cp", (rank,))
        fill(made, decompose(layer, "cp"), (rank,), layer.bias)
        made.requires_grad_(False)
        assert made(values).shape == whole.shape
        missed.append(float((made(values) - whole).norm() / whole.norm()))
    assert missed[0] > missed[1] > missed[2]
    assert missed[2] < 0.1
