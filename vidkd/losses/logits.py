"""Matching the logits of two networks: distillation, generalized distillation, D3D."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.reduction import clip_mean, require_same_shape, widen

UNLABELLED = -1


def logits_kd(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher/T) || softmax(student/T)), summed over classes, averaged over clips: 0 where logits differ by a constant.

    student, teacher: logits (B, C) of the same clip. Returns a scalar >= 0; its gradient in the
    student's logits is T * (q_T - p_T) / B, so its size hardly depends on T; no gradient reaches the teacher.
    The hard term and its weight are the caller's: (1 - a) * CE + a * logits_kd. Raises ValueError if the shapes differ.
    Source: Hinton et al. 2015 (arXiv 1503.02531), with KL for the soft cross-entropy (they differ by the teacher's constant entropy).
    """
    require_same_shape(student, teacher, ndim=2)
    log_q = F.log_softmax(widen(student) / temperature, dim=1)
    log_p = F.log_softmax(widen(teacher.detach()) / temperature, dim=1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of logits over classes and clips. student, teacher: (B, C).

    Unlike `logits_kd` it also matches the constant that softmax ignores. Returns a scalar >= 0; no gradient reaches the teacher.
    Raises ValueError if the shapes differ. Source: the distillation term of D3D (Stroud et al., arXiv 1812.08249), CE + MSE of logits to
    the flow network; the mean over classes is a reconstruction.
    """
    require_same_shape(student, teacher, ndim=2)
    return (widen(student) - widen(teacher.detach())).square().mean()


def generalized_distillation(
    student: Tensor,
    teacher: Tensor,
    label: Tensor,
    *,
    temperature: float,
    imitation: float,
    mode: Literal["paper", "code"] = "paper",
    label_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """(1 - imitation) * CE(label, softmax(student)) + imitation * CE(softmax(teacher/T), softmax(student)).

    student: logits (B, C) of the plain view; teacher: logits (B, C) of the privileged view (flow, future, ...); label: int64 (B,), -1 for
    an unlabelled clip. imitation in [0, 1]: 0 is plain cross-entropy, 1 imitation only. The student's softmax is not tempered.
    mode="paper" has no T^2; mode="code" multiplies the soft term by T^2, as the authors' script does.
    label_weight: optional (B,), see `clip_mean`, of the hard term, from which clips labelled -1 drop by themselves; the soft term is a mean
    over all clips.
    label_smoothing: share of the label's mass spread over all classes, in [0, 1].
    Returns a scalar >= 0 (not 0 at equality: the teacher's entropy stays in); no gradient reaches the teacher.
    Raises ValueError if shapes differ.
    Source: Lopez-Paz, Bottou, Schoelkopf, Vapnik 2016 (ICLR), equations and authors' code.
    """
    require_same_shape(student, teacher, ndim=2)
    z = widen(student)
    hard = F.cross_entropy(z, label, ignore_index=UNLABELLED, reduction="none", label_smoothing=label_smoothing)
    labelled = (label != UNLABELLED).to(hard.dtype)
    soft = -(F.softmax(widen(teacher.detach()) / temperature, dim=1) * F.log_softmax(z, dim=1)).sum(1)
    scale = temperature**2 if mode == "code" else 1.0
    hard_mean = clip_mean(hard, labelled if label_weight is None else labelled * label_weight)
    return (1 - imitation) * hard_mean + imitation * scale * soft.mean()
