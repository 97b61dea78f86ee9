"""Soft matching by attention: every vector is compared with what the other side has for it, wherever that is."""

import math
from functools import partial
from typing import Literal

from torch import Tensor

from vidkd.losses.reduction import clip_mean, require_positive_temperature
from vidkd.losses.shift_tolerant.chunks import by_clips, with_gradient, with_gradient_by_clips
from vidkd.losses.shift_tolerant.sets import Normalise, clip_losses, cost_matrix, full_precision, half_square, mixed, vector_sets

Directions = Literal["both", "student"]
Similarity = Literal["distance", "dot"]


def attentive(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 0.25,
    directions: Directions = "both",
    similarity: Similarity = "distance",
    attention_gradient: bool = False,
    normalise: Normalise = "clip",
    weight: Tensor | None = None,
) -> Tensor:
    """mean_i ||s_i - sum_j W_ij t_j||^2 / 2, with W = softmax_j(s_i . t_j / (tau sqrt C)); by default averaged with the same from t to s.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'). normalise: see `vector_sets`. In W the vectors count with a mean squared length
    of C. weight: optional (B,), see `clip_mean`.
    similarity="dot" is the W above; a longer t_j then beats one equal to s_i, at any temperature. "distance" takes the length of the key
    out, W = softmax_j(-||s_i - t_j||^2 / (2 tau sqrt C)): the same W where lengths are equal, and nearest neighbours as tau -> 0. With it
    equal features cost at most tau log(N) / sqrt(C), nothing in that limit; at high tau every vector is compared with the mean.
    directions="student" has the first term alone. It is 0 for a student that shows one vector of the teacher everywhere; the term from
    teacher to student makes it account for all of the teacher's.
    attention_gradient=False holds W constant in the gradient: a match is chosen, then the features move towards it, and the student cannot
    lower the loss by blurring the match instead. True differentiates W too.
    Returns a scalar of about 1/2 to 1 for unrelated features, in [0, 2] unless normalise="teacher". No gradient reaches the teacher.
    Memory beyond `position`: three matrices (N, M) for a few clips at a time (at least one), none kept for the backward pass; with
    attention_gradient six, which above `KEPT_ENTRIES` over the batch are computed again there instead of being kept.
    Raises ValueError for features that do not pair, temperature <= 0 and unknown options. Source: a reconstruction (the loss of Tran et
    al. 2019, arXiv 1904.04868, is not public).
    """
    require_positive_temperature(temperature)
    _require_options(directions, similarity)
    S, T = vector_sets(student, teacher, normalise)
    sharpness = math.sqrt(S.shape[2]) / temperature
    both, lengths, entries = directions == "both", similarity == "distance", S.shape[1] * T.shape[1]
    with full_precision(S):
        if attention_gradient:
            loss = partial(_loss, sharpness=sharpness, both=both, lengths=lengths)
            loss_B = by_clips(loss, S, T, entries=entries, keeps=True)
        else:
            held = partial(_loss_and_gradient, sharpness=sharpness, both=both, lengths=lengths)
            loss_B = with_gradient(*with_gradient_by_clips(held, S, T, entries=entries), S)
    return clip_mean(clip_losses(loss_B, teacher), weight)


def _loss(S: Tensor, T: Tensor, *, sharpness: float, both: bool, lengths: bool) -> Tensor:
    """The loss (B,), with the attention in the graph."""
    logits = _logits(S, T, sharpness, lengths)
    loss = half_square(S - mixed(logits.softmax(2), T)).mean(1)
    return (loss + half_square(T - mixed(logits.softmax(1).transpose(1, 2), S)).mean(1)) / 2 if both else loss


def _loss_and_gradient(S: Tensor, T: Tensor, *, sharpness: float, both: bool, lengths: bool) -> tuple[Tensor, Tensor]:
    """The loss (B,) and its gradient (B, N, C) in S with the attention held constant. Keeps vectors only.

    That of ||s_i - sum_j W_ij t_j||^2 / 2 is the difference itself; that of ||t_j - sum_i V_ij s_i||^2 / 2 is -sum_j V_ij times it.
    """
    logits = _logits(S, T, sharpness, lengths)
    difference = S - mixed(logits.softmax(2), T)
    loss, gradient = half_square(difference).mean(1), difference / S.shape[1]
    if not both:
        return loss, gradient
    attention = logits.softmax(1)
    difference = T - mixed(attention.transpose(1, 2), S)
    loss = loss + half_square(difference).mean(1)
    return loss / 2, (gradient - mixed(attention, difference / T.shape[1])) / 2


def _logits(S: Tensor, T: Tensor, sharpness: float, lengths: bool) -> Tensor:
    """(B, N, M), for a softmax over either side: what depends on the other side alone, a length, drops out of it."""
    if lengths:
        return cost_matrix(S, T).mul_(-sharpness)
    return (sharpness * S) @ T.transpose(1, 2)


def _require_options(directions: str, similarity: str) -> None:
    if directions not in ("both", "student"):
        raise ValueError(f"directions must be 'both' or 'student': {directions!r}")
    if similarity not in ("distance", "dot"):
        raise ValueError(f"similarity must be 'distance' or 'dot': {similarity!r}")
