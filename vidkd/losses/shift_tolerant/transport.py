"""Entropic optimal transport: the cheapest way to turn one set of vectors into the other, all of both used."""

import math
from functools import partial

import torch
from torch import Tensor

from vidkd.losses.reduction import clip_mean
from vidkd.losses.shift_tolerant.chunks import by_clips
from vidkd.losses.shift_tolerant.sets import Normalise, clip_losses, cost_matrix, full_precision, vector_sets


def transport(
    student: Tensor,
    teacher: Tensor,
    *,
    regularisation: float = 0.05,
    iterations: int = 6,
    debias: bool = True,
    plan_gradient: bool = False,
    normalise: Normalise = "clip",
    weight: Tensor | None = None,
) -> Tensor:
    """Entropic transport cost of the two sets, OT(S, T) = min_P <P, c> + r KL(P || uniform), with c_ij = ||s_i - t_j||^2 / 2.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'). P has the marginals 1/N and 1/M. regularisation: r, in the unit of the loss,
    where unrelated features are 1 apart. normalise: see `vector_sets`. weight: optional (B,), see `clip_mean`.
    debias=True gives the Sinkhorn divergence OT(S, T) - OT(S, S)/2 - OT(T, T)/2: 0 for equal sets after any number of iterations, and not
    negative where they have converged; as r grows it becomes half the squared distance of the means. debias=False gives OT(S, T), which
    lies above the unregularised cost by at most r log(min(N, M)), for equal features too: there it pulls towards the mean.
    iterations: symmetrised log-domain updates of the potentials; in the first half the regularisation falls from 1 to r geometrically
    (annealing). At the defaults the value is within about 0.01 of the converged one; a smaller r needs more.
    plan_gradient=False: the gradient is that of <P, c> with P (rows made to sum to 1/N) held constant, which is the gradient of the
    converged cost (envelope theorem). True differentiates through the iterations: the gradient of the number returned, converged or not.
    Returns a scalar, at most about 1 for unrelated features (less where many vectors fill few dimensions). No gradient reaches the teacher.
    Memory beyond `position`: four matrices (N, M), (N, N) or (M, M) for a few clips at a time (at least one), none kept for the backward
    pass; with plan_gradient about six an iteration, of one chunk at a time where the batch is large (`KEPT_ENTRIES`).
    Raises ValueError for features that do not pair, regularisation <= 0 or iterations < 1.
    Source: Cuturi 2013 (arXiv 1306.0895); debiasing and updates after Feydy et al. 2019 (arXiv 1810.08278). As part of this family a
    reconstruction (the loss of Tran et al. 2019, arXiv 1904.04868, is not public).
    """
    if not regularisation > 0 or iterations < 1:
        raise ValueError(f"regularisation must be above 0 and iterations at least 1: {regularisation}, {iterations}")
    S, T = vector_sets(student, teacher, normalise)
    solve = partial(_unrolled if plan_gradient else _envelope, schedule=annealing(regularisation, iterations), debias=debias)
    with full_precision(S):
        loss = by_clips(solve, S, T, entries=max(S.shape[1], T.shape[1]) ** 2, keeps=plan_gradient)
    return clip_mean(clip_losses(loss, teacher), weight)


def annealing(regularisation: float, iterations: int) -> list[float]:
    """The regularisation of each iteration: geometrically from 1 (or its own value, if larger) in the first half, then as it is."""
    start, falling = max(1.0, regularisation), iterations // 2
    return [start * (regularisation / start) ** (k / falling) if k < falling else regularisation for k in range(iterations)]


def _unrolled(S: Tensor, T: Tensor, *, schedule: list[float], debias: bool) -> Tensor:
    """The cost (B,), with every step of the iterations in the graph."""
    f, g, _ = _solve(cost_matrix(S, T), schedule)
    loss = f.mean(1) + g.mean(1)
    if debias:
        for vectors in (S, T):
            loss = loss - _solve_symmetric(cost_matrix(vectors, vectors), schedule)[0].mean(1)
    return loss


def _envelope(S: Tensor, T: Tensor, *, schedule: list[float], debias: bool) -> Tensor:
    """The cost (B,), with the gradient at constant plans. Keeps vectors only.

    The gradient of OT(S, T) in s_i is (s_i - sum_j P_ij t_j) / N, with rows of P that sum to 1, and half that of OT(S, S) likewise.
    """
    with torch.no_grad():
        f, g, plan = _solve(cost_matrix(S, T), schedule)
        loss, gradient = f.mean(1) + g.mean(1), S - plan @ T
        if debias:
            f, plan = _solve_symmetric(cost_matrix(S, S), schedule)
            loss, gradient = loss - f.mean(1), gradient - (S - plan @ S)
            loss = loss - _solve_symmetric(cost_matrix(T, T), schedule)[0].mean(1)
    return loss + ((gradient / S.shape[1]) * (S - S.detach())).sum((1, 2))


def _solve(cost: Tensor, schedule: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Potentials (B, N) and (B, M) for cost (B, N, M), and the plan (B, N, M) with rows made to sum to 1."""
    across = cost.transpose(1, 2).contiguous()
    f, g = cost.new_zeros(cost.shape[:2]), cost.new_zeros(across.shape[:2])
    for r in schedule:
        f, g = (f + _soft_minimum(cost, g, r)) / 2, (g + _soft_minimum(across, f, r)) / 2
    r = schedule[-1]
    return _soft_minimum(cost, g, r), _soft_minimum(across, f, r), ((g[:, None, :] - cost) / r).softmax(2)


def _solve_symmetric(cost: Tensor, schedule: list[float]) -> tuple[Tensor, Tensor]:
    """The one potential (B, N) of a set with itself, cost (B, N, N), by the same updates, and the plan as in `_solve`."""
    f = cost.new_zeros(cost.shape[:2])
    for r in schedule:
        f = (f + _soft_minimum(cost, f, r)) / 2
    r = schedule[-1]
    return _soft_minimum(cost, f, r), ((f[:, None, :] - cost) / r).softmax(2)


def _soft_minimum(cost: Tensor, potential: Tensor, r: float) -> Tensor:
    """-r log mean_j exp((potential_j - cost_ij) / r): (B, N, M) and (B, M) -> (B, N)."""
    # a log-softmax less its input is the log-sum-exp, in one pass over the matrix: a third faster than logsumexp, which makes copies
    logits = torch.sub((potential / r)[:, None, :], cost, alpha=1 / r)
    return r * (logits.log_softmax(2)[:, :, 0] - logits[:, :, 0] + math.log(cost.shape[2]))
