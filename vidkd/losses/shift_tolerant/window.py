"""The nearest vector within a window: a shift that the window holds costs nothing."""

from functools import partial

import torch
from torch import Tensor

from vidkd.losses.shift_tolerant.sets import by_clips, cost_matrix, full_precision, half_square, mean_of_clips, vector_sets

Radius = tuple[int, int, int]


def window(
    student: Tensor,
    teacher: Tensor,
    *,
    radius: Radius | None = (1, 1, 1),
) -> Tensor:
    """Mean over i of the least ||s_i - t_j||^2 / 2 among the j within a window around i, averaged with the same from teacher to student.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'). radius: how far a match may be, in positions along (T, H, W); 0 along an axis
    allows no shift there, so (0, 0, 0) is `position` on equal grids, and None allows any: the Chamfer distance of the two sets. On
    unlike grids places are relative (a position's centre, the axis from 0 to 1) and the radius counts in positions of the coarser grid,
    half of one added, so that no window is empty.
    Returns a scalar, at most `position` on equal grids, in [0, 2]; 1 for unrelated features of many channels,
    less where a wide window finds a vector that fits by chance. The gradient pulls matched pairs; which pairs match is held constant, as
    it is almost everywhere. No gradient reaches the teacher.
    Memory beyond `position`: three matrices (N, M) for a few clips at a time (at least one), none kept for the backward pass.
    Raises ValueError for features that do not pair. Source: a reconstruction (the loss of Tran et al. 2019,
    arXiv 1904.04868, is not public).
    """
    S, T = vector_sets(student, teacher)
    outside = None if radius is None else ~_within(student.shape[2:], teacher.shape[2:], radius).to(S.device)
    with torch.no_grad(), full_precision(S):
        pairs = by_clips(partial(_nearest, outside=outside), S.detach(), T, entries=S.shape[1] * T.shape[1])
    nearest_T, nearest_S = pairs[:, : S.shape[1]], pairs[:, S.shape[1] :]
    loss_S = half_square(S - _take(T, nearest_T)).mean(1)
    loss_T = half_square(T - _take(S, nearest_S)).mean(1)
    return mean_of_clips((loss_S + loss_T) / 2, teacher)


def _nearest(S: Tensor, T: Tensor, *, outside: Tensor | None) -> Tensor:
    """(B, N + M): for each s_i the index of its nearest t_j, then for each t_j that of its nearest s_i."""
    cost = cost_matrix(S, T)
    if outside is not None:
        cost.masked_fill_(outside, torch.inf)
    return torch.cat([cost.argmin(2), cost.argmin(1)], dim=1)


def _take(vectors: Tensor, index: Tensor) -> Tensor:
    """Vectors (B, N, C) at index (B, K) -> (B, K, C)."""
    return vectors.gather(1, index.unsqueeze(-1).expand(-1, -1, vectors.shape[2]))


def _within(grid_S: torch.Size, grid_T: torch.Size, radius: Radius) -> Tensor:
    """(N, M), whether two positions may match: along every axis."""
    t, h, w = (_within_axis(n, m, r) for n, m, r in zip(grid_S, grid_T, radius, strict=True))
    allowed = t[:, None, None, :, None, None] & h[None, :, None, None, :, None] & w[None, None, :, None, None, :]
    return allowed.reshape(grid_S.numel(), grid_T.numel())


def _within_axis(n: int, m: int, radius: int) -> Tensor:
    """(n, m): |(i + 1/2)/n - (j + 1/2)/m| * min(n, m) <= radius + 1/2, in whole numbers, so that ties are decided exactly."""
    i, j = torch.arange(n)[:, None], torch.arange(m)[None, :]
    return ((2 * i + 1) * m - (2 * j + 1) * n).abs() * min(n, m) <= (2 * radius + 1) * n * m
