"""Soft matching by attention: every vector is compared with what the other side has for it, wherever that is."""

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from vidkd.losses.reduction import clip_mean, require_positive_temperature
from vidkd.losses.shift_tolerant.chunks import by_clips
from vidkd.losses.shift_tolerant.sets import Normalise, clip_losses, full_precision, half_square, vector_sets

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
    Memory beyond `position`: four matrices (N, M) for a few clips at a time (at least one), one a clip for the backward pass; above
    `KEPT_ENTRIES` over the batch they are computed again there. Raises ValueError for features that do not pair, temperature <= 0 and
    unknown options. Source: a reconstruction (the loss of Tran et al. 2019, arXiv 1904.04868, is not public).
    """
    require_positive_temperature(temperature)
    _require_options(directions, similarity)
    S, T = vector_sets(student, teacher, normalise)
    loss = partial(
        _loss,
        sharpness=math.sqrt(S.shape[2]) / temperature,
        both=directions == "both",
        lengths=similarity == "distance",
        attention_gradient=attention_gradient,
    )
    with full_precision(S):
        loss_B = by_clips(loss, S, T, entries=S.shape[1] * T.shape[1], keeps=directions == "both" or attention_gradient)
    return clip_mean(clip_losses(loss_B, teacher), weight)


def _loss(S: Tensor, T: Tensor, *, sharpness: float, both: bool, lengths: bool, attention_gradient: bool) -> Tensor:
    with torch.set_grad_enabled(attention_gradient and torch.is_grad_enabled()):
        to_teacher, to_student = _attentions(S, T, sharpness, both, lengths)
    loss = half_square(S - to_teacher @ T).mean(1)
    return loss if to_student is None else (loss + half_square(T - to_student @ S).mean(1)) / 2


def _attentions(S: Tensor, T: Tensor, sharpness: float, both: bool, lengths: bool) -> tuple[Tensor, Tensor | None]:
    """Rows over the teacher's positions (B, N, M) and, for both directions, rows over the student's (B, M, N)."""
    logits = (sharpness * S) @ T.transpose(1, 2)
    key_S, key_T = (sharpness * half_square(x) * lengths for x in (S, T))
    to_teacher = (logits - key_T[:, None, :]).softmax(2)
    return to_teacher, (logits - key_S[:, :, None]).softmax(1).transpose(1, 2) if both else None


def _require_options(directions: str, similarity: str) -> None:
    if directions not in ("both", "student"):
        raise ValueError(f"directions must be 'both' or 'student': {directions!r}")
    if similarity not in ("distance", "dot"):
        raise ValueError(f"similarity must be 'distance' or 'dot': {similarity!r}")
