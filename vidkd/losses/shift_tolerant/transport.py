"""Entropic optimal transport: the cheapest way to turn one set of vectors into the other, all of both used."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from vidkd.losses.reduction import clip_mean
from vidkd.losses.shift_tolerant.chunks import by_clips, with_gradient, with_gradient_by_clips
from vidkd.losses.shift_tolerant.sets import Normalise, clip_losses, cost_matrix, full_precision, vector_sets
from vidkd.losses.shift_tolerant.sinkhorn import RowMeans, solve_by_kernels, solve_in_logs

Solve = Callable[..., tuple[Tensor, Tensor, RowMeans]]


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
    schedule, entries = annealing(regularisation, iterations), max(S.shape[1], T.shape[1]) ** 2
    with full_precision(S):
        if plan_gradient:
            loss_B = by_clips(partial(_unrolled, schedule=schedule, debias=debias), S, T, entries=entries, keeps=True)
        else:
            loss_B = with_gradient(*_held(S, T, partial(_envelope, schedule=schedule, debias=debias), entries), S)
    return clip_mean(clip_losses(loss_B, teacher), weight)


def annealing(regularisation: float, iterations: int) -> list[float]:
    """The regularisation of each iteration: geometrically from 1 (or its own value, if larger) in the first half, then as it is."""
    start, falling = max(1.0, regularisation), iterations // 2
    return [start * (regularisation / start) ** (k / falling) if k < falling else regularisation for k in range(iterations)]


def _unrolled(S: Tensor, T: Tensor, *, schedule: list[float], debias: bool) -> Tensor:
    """The cost (B,), with every step of the iterations in the graph."""
    f, g, _ = solve_in_logs(cost_matrix(S, T), schedule)
    loss = f.mean(1) + g.mean(1)
    if debias:
        for vectors in (S, T):
            loss = loss - solve_in_logs(cost_matrix(vectors, vectors), schedule, symmetric=True)[0].mean(1)
    return loss


def _held(S: Tensor, T: Tensor, envelope: Callable[..., tuple[Tensor, Tensor]], entries: int) -> tuple[Tensor, Tensor]:
    """The cost (B,) and its gradient, with kernels; those clips of which a kernel does not hold the range again in logarithms."""
    loss, gradient = with_gradient_by_clips(partial(envelope, solve=solve_by_kernels), S, T, entries=entries)
    lost = ~loss.isfinite()
    if lost.any():
        loss[lost], gradient[lost] = with_gradient_by_clips(partial(envelope, solve=solve_in_logs), S[lost], T[lost], entries=entries)
    return loss, gradient


def _envelope(S: Tensor, T: Tensor, *, schedule: list[float], debias: bool, solve: Solve) -> tuple[Tensor, Tensor]:
    """The cost (B,) and its gradient (B, N, C) in S at constant plans. Keeps vectors only.

    The gradient of OT(S, T) in s_i is (s_i - sum_j P_ij t_j) / N, with rows of P that sum to 1, and half that of OT(S, S) likewise.
    """
    f, g, row_means = solve(cost_matrix(S, T), schedule)
    loss, means = f.mean(1) + g.mean(1), row_means(T)
    if not debias:
        return loss, (S - means) / S.shape[1]
    # the kernels of one pair of sets go before those of the next come
    del row_means
    f, _, row_means = solve(cost_matrix(S, S), schedule, symmetric=True)
    loss, means = loss - f.mean(1), row_means(S) - means
    del row_means
    loss = loss - solve(cost_matrix(T, T), schedule, symmetric=True)[0].mean(1)
    return loss, means / S.shape[1]
