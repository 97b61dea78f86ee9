"""CP: a weight (outputs, inputs, kernel) as a sum of `rank` products of three vectors, by alternating least squares.

Lebedev et al. 2015 (arXiv 1412.6553) take convolutions apart this way, along each axis of the kernel; here the kernel is one mode (see
`vidkd.models.low_rank`). No closed form gives the best sum of a rank, and the sums of two ranks share nothing: each rank is a fit of its
own, begun at singular vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

SWEEPS = 60
TRIED = 12
"""Ranks that are fitted when an energy or a budget decides: the full rank, and each the square root of two below the one before."""

_SETTLED = 1e-6
_RIDGE = 1e-9
"""Added to the diagonal of each least-squares problem, as a share of its mean, so that products that cancel each other do not grow."""

Factors = tuple[Tensor, Tensor, Tensor]
"""(outputs, rank), (inputs, rank), (kernel, rank); each product's length is shared out equally over its three vectors."""


@dataclass(frozen=True)
class CanonicalPolyadic:
    """A weight (outputs, inputs, *kernel) in float64 as sums of products; a rank is fitted when it is first asked for."""

    weight: Tensor
    method: Literal["cp"] = "cp"
    _fits: dict[int, Factors] = field(default_factory=dict, repr=False, compare=False)

    @property
    def full(self) -> tuple[int, ...]:
        """(the least number of products that hold any weight of this shape as it stands: one for each pair along two modes,)."""
        outputs, inputs, kernel = self._flat().shape
        return (min(outputs * inputs, outputs * kernel, inputs * kernel),)

    def weights(self, ranks: Sequence[int]) -> list[Tensor]:
        """Weights of the layers of `low_rank`: (rank, inputs, 1...), (rank, 1, *kernel), (outputs, rank, 1...)."""
        (rank,) = ranks
        outputs, inputs, kernel = self._fit(rank)
        shape = self.weight.shape[2:]
        ones = (1,) * len(shape)
        return [inputs.T.reshape(rank, -1, *ones), kernel.T.reshape(rank, 1, *shape), outputs.reshape(-1, rank, *ones)]

    def kept_at(self, ranks: Sequence[int]) -> float:
        """Share of the squared weight that is kept, in [0, 1]; 1 for a weight of zeros."""
        (rank,) = ranks
        whole = self._flat()
        squares = whole.square().sum()
        if squares == 0:
            return 1.0
        outputs, inputs, kernel = self._fit(rank)
        left = whole.flatten(1) - outputs @ _pairs(inputs, kernel).T
        return float((1 - left.square().sum() / squares).clamp(0, 1))

    def ranks_worth_trying(self) -> list[tuple[int, ...]]:
        """At most `TRIED`, in rising order."""
        (full,) = self.full
        return [(rank,) for rank in sorted({max(1, round(full * 2 ** (-step / 2))) for step in range(TRIED)})]

    def ranks_keeping(self, energy: float) -> tuple[int, ...]:
        """The least of the ranks tried that keeps this share, found by halving, as if more products always kept more."""
        tried = self.ranks_worth_trying()
        low, high = 0, len(tried) - 1
        while low < high:
            middle = (low + high) // 2
            if self.kept_at(tried[middle]) >= energy - 1e-12:
                high = middle
            else:
                low = middle + 1
        return tried[high]

    def _flat(self) -> Tensor:
        return self.weight.flatten(2)

    def _fit(self, rank: int) -> Factors:
        if rank not in self._fits:
            whole = self._flat()
            self._fits[rank] = _exact(whole) if (rank,) == self.full else alternating_least_squares(whole, rank)
        return self._fits[rank]


def alternating_least_squares(whole: Tensor, rank: int, *, seed: int = 0) -> Factors:
    """Factors of a weight (outputs, inputs, kernel) in float64. Each sweep solves for one mode at a time, the other two held.

    Begun at the leading singular vectors of each mode, and at random ones, drawn by seed, beyond as many as there are. Ends when a sweep
    changes the kept share by less than 1e-6, after `SWEEPS` at the latest.
    """
    noise = torch.Generator().manual_seed(seed)
    outputs, inputs, kernel = (_first_factor(whole.movedim(mode, 0).flatten(1), rank, noise) for mode in range(3))
    squares, before = whole.square().sum(), -1.0
    for _ in range(SWEEPS):
        outputs = _solved(whole.flatten(1) @ _pairs(inputs, kernel), inputs, kernel)
        inputs = _solved(whole.transpose(0, 1).flatten(1) @ _pairs(outputs, kernel), outputs, kernel)
        # outputs first: all pairs of outputs and inputs, times the rank, would be by far the largest tensor here
        along = torch.einsum("oik,or->ikr", whole, outputs)
        kernel = _solved(torch.einsum("ikr,ir->kr", along, inputs), outputs, inputs)
        outputs, inputs, kernel = _balanced(outputs, inputs, kernel)
        left = whole.flatten(1) - outputs @ _pairs(inputs, kernel).T
        kept = 1 - float(left.square().sum() / squares)
        if abs(kept - before) < _SETTLED:
            break
        before = kept
    return outputs, inputs, kernel


def _first_factor(unfolded: Tensor, rank: int, noise: torch.Generator) -> Tensor:
    """(size, rank): singular vectors of a mode, then random ones of length one."""
    vectors = torch.linalg.eigh(unfolded @ unfolded.T).eigenvectors.flip(1)[:, :rank]
    more = torch.randn(len(unfolded), rank - vectors.shape[1], generator=noise, dtype=unfolded.dtype)
    return torch.cat([vectors, more / more.norm(dim=0).clamp(min=1e-12)], dim=1)


def _pairs(one: Tensor, two: Tensor) -> Tensor:
    """Khatri-Rao product: (n, r), (m, r) -> (n * m, r)."""
    return (one[:, None] * two).flatten(0, 1)


def _solved(right: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """The factor (n, r) whose products with the other two come nearest, from the weight times their pairs."""
    gram = (one.T @ one) * (two.T @ two)
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny)
    found: Tensor = torch.linalg.solve(gram, right.T)
    return found.T


def _balanced(*factors: Tensor) -> Factors:
    """The same products, each with its length shared out equally, so that the layers learn alike."""
    lengths = torch.stack([factor.norm(dim=0) for factor in factors])
    each = lengths.prod(dim=0) ** (1 / 3)
    one, two, three = (factor * torch.where(length > 0, each / length, 0) for factor, length in zip(factors, lengths, strict=True))
    return one, two, three


def _exact(whole: Tensor) -> Factors:
    """A product for each pair of indices along the two modes that have fewest: nothing is lost."""
    sizes = whole.shape
    third = min(range(3), key=lambda mode: sizes[0] * sizes[1] * sizes[2] // sizes[mode])
    one, two = (mode for mode in range(3) if mode != third)
    count = sizes[one] * sizes[two]
    found = [torch.empty(0)] * 3
    found[one] = torch.eye(sizes[one], dtype=whole.dtype).repeat_interleave(sizes[two], dim=1)
    found[two] = torch.eye(sizes[two], dtype=whole.dtype).repeat(1, sizes[one])
    found[third] = whole.movedim(third, 2).reshape(count, sizes[third]).T
    return _balanced(*found)
