"""Soft matching by attention: every vector is compared with what the other side has for it, wherever that is."""

import math
from functools import partial

from torch import Tensor

from vidkd.losses.shift_tolerant.sets import (
    cost_matrix,
    full_precision,
    half_square,
    mean_of_clips,
    mixed,
    vector_sets,
    with_gradient,
)


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
