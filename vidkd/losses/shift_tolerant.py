"""Losses between feature maps of which the contents may have shifted: a student that sees the past, a teacher that sees the future.

A family reconstructed from the idea of Tran, Wang, Hoai 2019 (arXiv 1904.04868), whose own loss is not public. All are pure functions of
(B, C, T, H, W) pairs with equal C and free T, H, W, in one unit (see `vector_sets`): 0 for equal features, about 1 for unrelated ones
around zero.
After a ReLU, where features are not around zero, only `position` and `window` keep what unrelated ones cost at another size: `pooled` and
`gram` fall as positions grow, `attentive` and `transport` less so, and their weights are to be tuned again.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.reduction import widen
from vidkd.losses.transport import transport
from vidkd.losses.vector_sets import (
    by_clips,
    cost_matrix,
    descriptor_distance,
    full_precision,
    half_square,
    mean_of_clips,
    mixed,
    require_maps,
    vector_sets,
    with_gradient,
)

Radius = tuple[int, int, int]


def position(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared distance of the vectors at the same position, mean_i ||s_i - t_i||^2 / 2: 0 for equal features.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'), resampled to the student's grid first: averaged over areas along axes that get
    shorter, then interpolated linearly along those that get longer. The value of a clip is 1 - cosine of the two whole maps.
    Returns a scalar, 1 for unrelated features, in [0, 2]. No gradient reaches the teacher.
    Raises ValueError for features that do not pair. Source: plain feature regression, here with the family's unit.
    """
    require_maps(student, teacher)
    S, T = vector_sets(student, _resample(teacher.detach(), student))
    return mean_of_clips(half_square(S - T).mean(1), teacher)


def _resample(teacher: Tensor, student: Tensor) -> Tensor:
    grid_S, grid_T = student.shape[2:], teacher.shape[2:]
    frames, height, width = (min(s, t) for s, t in zip(grid_S, grid_T, strict=True))
    smaller = (frames, height, width)
    if smaller != tuple(grid_T):
        teacher = F.adaptive_avg_pool3d(widen(teacher), smaller)
    if smaller != tuple(grid_S):
        teacher = F.interpolate(widen(teacher), list(grid_S), mode="trilinear", align_corners=False)
    return teacher


def pooled(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of the mean vectors, ||mean_i s_i - mean_j t_j||^2 / (2 ||mean_j t_j||^2): 0 for equal means.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'). The student's mean is divided by its own
    length too, which makes the value of a clip 1 - cosine of the mean vectors. It is measured by the mean of the teacher and not by
    its single vectors: those of many independent positions average to little, and the weight would depend on their number.
    Returns a scalar, 1 for unrelated means, in [0, 2]. No gradient reaches the teacher; N + M vectors are all
    that is kept. Raises ValueError for features that do not pair.
    Source: MARS (Crasto et al. 2019), here with the family's unit; `pooled_feature_mse` is the term as published.
    """
    S, T = vector_sets(student, teacher)
    return mean_of_clips(descriptor_distance(S.mean(1), T.mean(1)), teacher)


def gram(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of second moments, ||S'S/N - T'T/M||_F^2 / (2 ||T'T/M||_F^2): 0 where the moments are equal.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'); S (N, C) and T (M, C) are their vectors. Uncentred, so the means count too.
    The student's moments are divided by their own norm too, which makes the value of a clip 1 - cosine of the two matrices, in [0, 1].
    1 for clips whose features lie in unlike directions. Features that are drawn alike have alike
    moments, unlike positions: for white noise in both what is left is sampling, (C + 1) / (C + N + 1), little where N is above C.
    Returns a scalar. No gradient reaches the teacher. Memory beyond `position`: some seven matrices (C, C), for
    a few clips at a time (at least one) where C^2 is large.
    Raises ValueError for features that do not pair.
    Source: second moments after Gatys et al. 2015 (arXiv 1508.06576); as part of this family a reconstruction.
    """
    S, T = vector_sets(student, teacher)

    def distance(s: Tensor, t: Tensor) -> Tensor:
        return descriptor_distance(_second_moments(s), _second_moments(t))

    with full_precision(S):
        return mean_of_clips(by_clips(distance, S, T, entries=S.shape[2] ** 2), teacher)


def _second_moments(vectors: Tensor) -> Tensor:
    """(B, N, C) -> (B, C*C)."""
    return (vectors.transpose(1, 2) @ vectors).flatten(1) / vectors.shape[1]


def attentive(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 0.25,
) -> Tensor:
    """mean_i ||s_i - sum_j W_ij t_j||^2 / 2, W = softmax_j(-||s_i - t_j||^2 / (2 tau sqrt C)), averaged with the same from t to s.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'). In W the vectors count with a mean squared length
    of C. The distance, not the dot product, weighs a key: a longer t_j would else beat one equal to s_i. It tends to nearest neighbours as
    tau -> 0; equal features cost at most tau log(N) / sqrt(C); at high tau every vector is compared with the mean.
    The first term alone is 0 for a student that shows one vector of the teacher everywhere; the term from teacher to student makes it
    account for all of the teacher's.
    W is constant in the gradient: a match is chosen, then the features move towards it, and the student cannot lower the loss by blurring
    the match instead.
    Returns a scalar of about 1/2 to 1 for unrelated features, in [0, 2]. No gradient reaches the teacher.
    Memory beyond `position`: three matrices (N, M) for a few clips at a time (at least one), none kept for the backward pass.
    Raises ValueError for features that do not pair. Source: a reconstruction (the loss of Tran et al. 2019, arXiv 1904.04868, is not
    public).
    """
    S, T = vector_sets(student, teacher)
    loss = partial(_loss_and_gradient, sharpness=math.sqrt(S.shape[2]) / temperature)
    with full_precision(S):
        return mean_of_clips(with_gradient(loss, S, T, entries=S.shape[1] * T.shape[1]), teacher)


def _loss_and_gradient(S: Tensor, T: Tensor, *, sharpness: float) -> tuple[Tensor, Tensor]:
    """The loss (B,) and its gradient (B, N, C) in S with the attention held constant. Keeps vectors only.

    That of ||s_i - sum_j W_ij t_j||^2 / 2 is the difference itself; that of ||t_j - sum_i V_ij s_i||^2 / 2 is -sum_j V_ij times it.
    """
    logits = cost_matrix(S, T).mul_(-sharpness)
    difference = S - mixed(logits.softmax(2), T)
    loss, gradient = half_square(difference).mean(1), difference / S.shape[1]
    attention = logits.softmax(1)
    difference = T - mixed(attention.transpose(1, 2), S)
    loss = loss + half_square(difference).mean(1)
    return loss / 2, (gradient - mixed(attention, difference / T.shape[1])) / 2


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


SHIFT_TOLERANT: dict[str, Callable[..., Tensor]] = {
    "position": position,
    "pooled": pooled,
    "gram": gram,
    "attentive": attentive,
    "window": window,
    "transport": transport,
}
