"""Matching the outputs of two networks: logits of one label, of many labels, and regressed numbers."""

import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.reduction import clip_mean, require_positive_temperature, require_same_shape, widen


def logits_kd(student: Tensor, teacher: Tensor, *, temperature: float, weight: Tensor | None = None) -> Tensor:
    """T^2 * KL(softmax(teacher/T) || softmax(student/T)), summed over classes, averaged over clips: 0 where logits differ by a constant.

    student, teacher: logits (B, C) of the same clip. weight: optional (B,), see `clip_mean`. Returns a scalar >= 0; its gradient in the
    student's logits is T * (q_T - p_T) / B, so its size hardly depends on T; no gradient reaches the teacher.
    The hard term and its weight are the caller's: (1 - a) * CE + a * logits_kd. Raises ValueError if the shapes differ or T <= 0.
    Source: Hinton et al. 2015 (arXiv 1503.02531), with KL for the soft cross-entropy (they differ by the teacher's constant entropy).
    """
    require_same_shape(student, teacher, ndim=2)
    require_positive_temperature(temperature)
    log_q = F.log_softmax(widen(student) / temperature, dim=1)
    log_p = F.log_softmax(widen(teacher.detach()) / temperature, dim=1)
    return temperature**2 * clip_mean((log_p.exp() * (log_p - log_q)).sum(1), weight)


def multilabel_kd(student: Tensor, teacher: Tensor, *, temperature: float, weight: Tensor | None = None) -> Tensor:
    """T^2 * binary cross-entropy to the teacher's tempered sigmoid, less that sigmoid's own entropy, summed over classes.

    That is T^2 * sum_c KL(Bernoulli(sigmoid(teacher/T)) || Bernoulli(sigmoid(student/T))): the entropy is a constant of the student, taken
    away so that the loss is 0 at equality. student, teacher: logits (B, C), every class a yes or no of its own. weight: optional (B,).
    Returns a scalar >= 0, averaged over clips; gradient T * (sigmoid(z/T) - sigmoid(v/T)) / B, which tends to (z - v) / (4 B) at high T.
    Raises ValueError if the shapes differ or T <= 0. Source: our reconstruction of Hinton et al. 2015 for many labels.
    """
    require_same_shape(student, teacher, ndim=2)
    require_positive_temperature(temperature)
    z, v = widen(student) / temperature, widen(teacher.detach()) / temperature
    present = v.sigmoid() * (F.logsigmoid(v) - F.logsigmoid(z))
    absent = (-v).sigmoid() * (F.logsigmoid(-v) - F.logsigmoid(-z))
    return temperature**2 * clip_mean((present + absent).sum(1), weight)


def regression_kd(student: Tensor, teacher: Tensor, target: Tensor, *, margin: float = 0.0, weight: Tensor | None = None) -> Tensor:
    """Teacher-bounded regression: ||S - y||^2 for a row with ||S - y||^2 + margin > ||R - y||^2, else 0; R is the teacher. Mean over rows.

    student, teacher, target: (N, D), in one unit. A row where the student beats the teacher by more than `margin` (the unit squared) costs
    nothing, and a teacher worse than the student pulls nowhere: the target is always y. weight: optional (N,). Returns a scalar >= 0; no
    gradient reaches teacher or target. Raises ValueError if the shapes differ.
    Source: Chen et al. 2017, "Learning Efficient Object Detection Models with Knowledge Distillation", from memory, unverified.
    """
    require_same_shape(student, teacher, ndim=2)
    require_same_shape(student, target, ndim=2)
    y = widen(target.detach())
    error_S = (widen(student) - y).square().sum(1)
    error_T = (widen(teacher.detach()) - y).square().sum(1)
    return clip_mean(error_S * (error_S.detach() + margin > error_T), weight)


def regression_matching(student: Tensor, teacher: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """||S - R||^2 summed over D, averaged over rows: plain imitation of the teacher's numbers. student, teacher: (N, D). weight: (N,).

    No gradient reaches the teacher. Raises ValueError if the shapes differ.
    """
    require_same_shape(student, teacher, ndim=2)
    return clip_mean((widen(student) - widen(teacher.detach())).square().sum(1), weight)


def logit_mse(student: Tensor, teacher: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean squared difference of logits over classes and clips. student, teacher: (B, C). weight: optional (B,).

    Unlike `logits_kd` it also matches the constant that softmax ignores. Returns a scalar >= 0; no gradient reaches the teacher.
    Raises ValueError if the shapes differ. Source: the distillation term of D3D (Stroud et al., arXiv 1812.08249), CE + MSE of logits to
    the flow network; the mean over classes is a reconstruction.
    """
    require_same_shape(student, teacher, ndim=2)
    return clip_mean((widen(student) - widen(teacher.detach())).square().mean(1), weight)
