"""Weights as products of smaller ones: truncated singular values and truncated higher-order singular values.

Computed in float64. "channel" and "spatial" are the best of their rank: the squared error is the sum of the squared singular values left
out (Eckart and Young 1936). "tucker" is the truncated HOSVD (De Lathauwer et al. 2000): its squared error is at most twice the least.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidkd.models.low_rank import Factorable, LowRank, Method, axes


@dataclass(frozen=True)
class Decomposition:
    """A layer's weight, taken apart.

    kept: share of the squared weight that is kept, over the rank, or over both ranks (outputs, inputs) for "tucker"; entry 0 is rank 1.
    modes: what each rank would keep if the others were full, one tensor a rank. parts: orthogonal factors (and the core), for `weights`.
    """

    method: Method
    kept: Tensor
    modes: tuple[Tensor, ...]
    parts: tuple[Tensor, ...]
    kernel: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]

    def weights(self, ranks: Sequence[int]) -> list[Tensor]:
        """The weights of the layers of `low_rank`, in order, in float64."""
        if self.method == "tucker":
            outputs, inputs, core = self.parts
            ones = (1,) * len(self.kernel)
            wide, narrow = ranks
            return [
                inputs[:, :narrow].T.reshape(narrow, -1, *ones),
                core[:wide, :narrow].reshape(wide, narrow, *self.kernel),
                outputs[:, :wide].reshape(-1, wide, *ones),
            ]
        left, values, right = self.parts
        (rank,) = ranks
        root = values[:rank].sqrt()  # both layers get half of the scale, so that they learn alike
        return [
            (left[:, :rank] * root).T.reshape(rank, -1, *self._sizes(self.first)),
            (right[:rank].T * root).reshape(-1, *self._kept(self.second), rank).movedim(-1, 1).reshape(-1, rank, *self._sizes(self.second)),
        ]

    def _kept(self, along: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.kernel[axis] for axis in along)

    def _sizes(self, along: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(size if axis in along else 1 for axis, size in enumerate(self.kernel))


def decompose(layer: Factorable, method: Method) -> Decomposition:
    """Take the weight of a layer apart. A linear layer is taken apart as "channel", whatever the method."""
    weight = layer.weight.detach().to("cpu", torch.float64)
    kernel = tuple(weight.shape[2:])
    if not kernel:
        return _matrix(weight, "channel", (), ())
    if method == "tucker":
        return _tucker(weight)
    first, second = axes(layer, method)  # type: ignore[arg-type]  # has a kernel, so is a convolution
    return _matrix(weight, method, first, second)


def fill(layers: LowRank, decomposition: Decomposition, ranks: Sequence[int], bias: Tensor | None) -> None:
    """Give the layers that `low_rank` made their weights, and the last one the bias of the layer that they stand for."""
    with torch.no_grad():
        for part, weight in zip(layers, decomposition.weights(ranks), strict=True):
            part.get_parameter("weight").copy_(weight)
        if bias is not None:
            layers[-1].get_parameter("bias").copy_(bias)


def _matrix(weight: Tensor, method: Method, first: tuple[int, ...], second: tuple[int, ...]) -> Decomposition:
    """Inputs and the first layer's part of the kernel against outputs and the second's."""
    order = (1, *(2 + axis for axis in first), 0, *(2 + axis for axis in second))
    matrix = weight.permute(order).flatten(0, len(first)).flatten(1)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = _shares(values.square())
    return Decomposition(method, kept, (kept,), (left, values, right), tuple(weight.shape[2:]), first, second)


def _tucker(weight: Tensor) -> Decomposition:
    outputs, of_outputs, _ = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    inputs, of_inputs, _ = torch.linalg.svd(weight.transpose(0, 1).flatten(1), full_matrices=False)
    core = torch.einsum("oik,or,is->rsk", weight.flatten(2), outputs, inputs)
    squares = core.square().sum(2).cumsum(0).cumsum(1)
    kept = squares / squares[-1, -1] if squares[-1, -1] > 0 else torch.ones_like(squares)
    modes = (_shares(of_outputs.square()), _shares(of_inputs.square()))
    return Decomposition("tucker", kept, modes, (outputs, inputs, core), tuple(weight.shape[2:]), (), ())


def _shares(squares: Tensor) -> Tensor:
    """Running sum as a share of the whole; all ones for a weight of zeros, which any rank keeps."""
    sums = squares.cumsum(0)
    return sums / sums[-1] if sums[-1] > 0 else torch.ones_like(sums)
