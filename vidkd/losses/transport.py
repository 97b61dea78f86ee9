"""Entropic optimal transport: the cheapest way to turn one set of vectors into the other, all of both used.

Potentials by symmetrised Sinkhorn updates, with kernels that are kept, and in logarithms where these leave the range of numbers.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.vector_sets import cost_matrix, full_precision, mean_of_clips, mixed, vector_sets, with_gradient

# A sum of weighted entries of a kernel counts as lost below this many times the least normal number: above, an entry that has become 0 or
# denormal would have been less than 1e-8 of the sum.
LEAST_SUM = 1e8

RowMeans = Callable[[Tensor], Tensor]
"""Means of vectors (B, M, C) under the rows of a plan, each made to sum to 1: (B, N, C)."""
Solve = Callable[..., tuple[Tensor, Tensor, RowMeans]]


def transport(
    student: Tensor,
    teacher: Tensor,
    *,
    regularisation: float = 0.05,
    iterations: int = 6,
) -> Tensor:
    """Sinkhorn divergence OT(S, T) - OT(S, S)/2 - OT(T, T)/2 of the two sets, OT(S, T) = min_P <P, c> + r KL(P || uniform).

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'). c_ij = ||s_i - t_j||^2 / 2; P has the marginals 1/N and 1/M. regularisation: r,
    in the unit of the loss, where unrelated features are 1 apart.
    0 for equal sets after any number of iterations, and not negative where they have converged; as r grows it becomes half the squared
    distance of the means.
    iterations: symmetrised updates of the potentials; in the first half the regularisation falls from 1 to r geometrically
    (annealing). At the defaults the value is within about 0.01 of the converged one; a smaller r needs more.
    The gradient is that of <P, c> with P (rows made to sum to 1/N) held constant, which is the gradient of the converged cost (envelope
    theorem).
    Returns a scalar, at most about 1 for unrelated features (less where many vectors fill few dimensions). No gradient reaches the teacher.
    Memory beyond `position`: four matrices (N, M), (N, N) or (M, M) for a few clips at a time (at least one), none kept for the backward
    pass. Raises ValueError for features that do not pair.
    Source: Cuturi 2013 (arXiv 1306.0895); debiasing and updates after Feydy et al. 2019 (arXiv 1810.08278). As part of this family a
    reconstruction (the loss of Tran et al. 2019, arXiv 1904.04868, is not public).
    """
    S, T = vector_sets(student, teacher)
    loss = partial(_loss_and_gradient, schedule=annealing(regularisation, iterations))
    with full_precision(S):
        return mean_of_clips(with_gradient(loss, S, T, entries=max(S.shape[1], T.shape[1]) ** 2), teacher)


def annealing(regularisation: float, iterations: int) -> list[float]:
    """The regularisation of each iteration: geometrically from 1 (or its own value, if larger) in the first half, then as given."""
    start, falling = max(1.0, regularisation), iterations // 2
    return [start * (regularisation / start) ** (k / falling) if k < falling else regularisation for k in range(iterations)]


def _loss_and_gradient(S: Tensor, T: Tensor, *, schedule: list[float]) -> tuple[Tensor, Tensor]:
    """The divergence (B,) and its gradient, with kernels; those clips of which a kernel does not hold the range again in logarithms."""
    loss, gradient = _divergence(S, T, schedule, solve_by_kernels)
    lost = ~loss.isfinite()
    if lost.any():
        loss[lost], gradient[lost] = _divergence(S[lost], T[lost], schedule, solve_in_logs)
    return loss, gradient


def _divergence(S: Tensor, T: Tensor, schedule: list[float], solve: Solve) -> tuple[Tensor, Tensor]:
    """The divergence (B,) and its gradient (B, N, C) in S at constant plans. Keeps vectors only.

    The gradient of OT(S, T) in s_i is (s_i - sum_j P_ij t_j) / N, with rows of P that sum to 1, and half that of OT(S, S) likewise.
    """
    f, g, row_means = solve(cost_matrix(S, T), schedule)
    loss, means = f.mean(1) + g.mean(1), row_means(T)
    # the kernels of one pair of sets go before those of the next come
    del row_means
    f, _, row_means = solve(cost_matrix(S, S), schedule, symmetric=True)
    loss, means = loss - f.mean(1), row_means(S) - means
    del row_means
    loss = loss - solve(cost_matrix(T, T), schedule, symmetric=True)[0].mean(1)
    return loss, means / S.shape[1]


def solve_in_logs(cost: Tensor, schedule: list[float], symmetric: bool = False) -> tuple[Tensor, Tensor, RowMeans]:
    """Potentials (B, N) and (B, M) for the costs (B, N, M) of uniform sets, by one update for each regularisation, and the plan's rows.

    symmetric: for a set with itself, where N = M and both potentials are one. Holds every range of numbers.
    """
    across = cost if symmetric else cost.transpose(1, 2).contiguous()
    f, g = cost.new_zeros(cost.shape[:2]), cost.new_zeros(across.shape[:2])
    for r in schedule:
        soft_f = _soft_minimum(cost, g, r)
        soft_g = soft_f if symmetric else _soft_minimum(across, f, r)
        f, g = (f + soft_f) / 2, (g + soft_g) / 2
    r = schedule[-1]
    soft_f = _soft_minimum(cost, g, r)
    soft_g = soft_f if symmetric else _soft_minimum(across, f, r)
    return soft_f, soft_g, lambda vectors: mixed(((g[:, None, :] - cost) / r).softmax(2), vectors)


def _soft_minimum(cost: Tensor, potential: Tensor, r: float, room: tuple[Tensor | None, Tensor | None] = (None, None)) -> Tensor:
    """-r log mean_j exp((potential_j - cost_ij) / r): (B, N, M) and (B, M) -> (B, N). room: two (B, N, M) to write to."""
    # a log-softmax less its input is the log-sum-exp, in one pass over the matrix: a third faster than logsumexp, which makes copies
    logits = torch.sub((potential / r)[:, None, :], cost, alpha=1 / r, out=room[0])
    return r * (torch.log_softmax(logits, 2, out=room[1])[:, :, 0] - logits[:, :, 0] + math.log(cost.shape[2]))


def solve_by_kernels(cost: Tensor, schedule: list[float], symmetric: bool = False) -> tuple[Tensor, Tensor, RowMeans]:
    """As `solve_in_logs`, with one exponential of the matrix for each regularisation, of both directions and all iterations that share it.

    A clip that leaves the range of numbers has potentials that are not finite.

    Of the potential g_0 at hand when the regularisation r changes are kept the rows K_ij = softmax_j((g_0j - c_ij) / r) and their soft
    minimum f_0. For any other potentials f and g
    -r log mean_j exp((g_j - c_ij) / r) = f_0i - r log sum_j K_ij exp((g_j - g_0j) / r) and
    -r log mean_i exp((f_i - c_ij) / r) = g_0j - r log(sum_i K_ij exp((f_i - f_0i) / r) M / N).
    """
    logits, kernel = torch.empty_like(cost), torch.empty_like(cost)
    f, g = cost.new_zeros(cost.shape[0], cost.shape[1]), cost.new_zeros(cost.shape[0], cost.shape[2])
    across, held, log_ratio = kernel.transpose(1, 2), 0.0, math.log(cost.shape[2] / cost.shape[1])
    for r in schedule:
        if symmetric and r != schedule[-1]:
            # nothing but the sums of this kernel is of use: a log-softmax gives them in fewer passes
            soft_f = _soft_minimum(cost, g, r, (logits, kernel))
        elif r != held:
            held, g_0 = r, g
            f_0 = soft_f = _kernel(cost, g, r, logits, kernel)
        else:
            soft_f = f_0 - r * _log_sums(kernel, (g - g_0) / r)[0]
        soft_g = soft_f if symmetric else g_0 - r * (_log_sums(across, (f - f_0) / r)[0] + log_ratio)
        f, g = (f + soft_f) / 2, (g + soft_g) / 2
    log_sums, sums, weights = _log_sums(kernel, (g - g_0) / r)
    soft_f = f_0 - r * log_sums
    soft_g = soft_f if symmetric else g_0 - r * (_log_sums(across, (f - f_0) / r)[0] + log_ratio)
    return soft_f, soft_g, lambda vectors: mixed(kernel, vectors * weights[:, :, None]) / sums[:, :, None]


def _kernel(cost: Tensor, potential: Tensor, r: float, logits: Tensor, kernel: Tensor) -> Tensor:
    """Writes the softmax of (potential_j - cost_ij) / r over j into `kernel` and returns the soft minimum (B, N), as `_soft_minimum`."""
    torch.sub((potential / r)[:, None, :], cost, alpha=1 / r, out=logits)
    torch.softmax(logits, 2, out=kernel)
    # at its largest entry a softmax is the exponential of that logit less the log-sum-exp
    return r * (kernel.amax(2).log_() - logits.amax(2) + math.log(cost.shape[2]))


def _log_sums(kernel: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The log of sum_j kernel_ij exp(exponent_j) (B, N), -inf if too small; that sum and its weights, both less a common factor."""
    top = exponents.amax(1, keepdim=True)
    weights = (exponents - top).exp_()
    # a row times the transposed matrix is ten times faster here than the matrix times a column
    sums = torch.bmm(weights[:, None, :], kernel.transpose(1, 2))[:, 0]
    least = torch.finfo(sums.dtype).tiny * LEAST_SUM
    return F.threshold(sums, least, 0.0).log_().add_(top), sums, weights
