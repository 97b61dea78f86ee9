"""Generalized distillation: the teacher saw privileged information that the student never gets."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.reduction import clip_mean, require_positive_temperature, require_same_shape, widen

UNLABELLED = -1


def generalized_distillation(
    student: Tensor,
    teacher: Tensor,
    label: Tensor,
    *,
    temperature: float,
    imitation: float,
    mode: Literal["paper", "code"] = "paper",
    label_weight: Tensor | None = None,
    teacher_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """(1 - imitation) * CE(label, softmax(student)) + imitation * CE(softmax(teacher/T), softmax(student)).

    student: logits (B, C) of the plain view; teacher: logits (B, C) of the privileged view (flow, future, ...); label: int64 (B,), -1 for
    an unlabelled clip. imitation in [0, 1]: 0 is plain cross-entropy, 1 imitation alone. The student's softmax is not tempered.
    mode="paper" has no T^2; mode="code" multiplies the soft term by T^2, as the authors' script does.
    label_weight, teacher_weight: optional (B,), see `clip_mean`; a clip without a label or without privileged view drops only from the term
    that needs it. Clips labelled -1 drop from the hard term by themselves. Each term is a mean over the clips that count in it.
    label_smoothing: share of the label's mass spread over all classes, in [0, 1].
    Returns a scalar >= 0 (not 0 at equality: the teacher's entropy stays in); no gradient reaches the teacher.
    Raises ValueError if shapes differ, T <= 0, imitation is outside [0, 1] or the mode is unknown.
    Source: Lopez-Paz, Bottou, Schoelkopf, Vapnik 2016 (ICLR), equations and authors' code.
    """
    require_same_shape(student, teacher, ndim=2)
    require_positive_temperature(temperature)
    _require_options(imitation, mode)
    z = widen(student)
    hard = F.cross_entropy(z, label, ignore_index=UNLABELLED, reduction="none", label_smoothing=label_smoothing)
    labelled = (label != UNLABELLED).to(hard.dtype)
    soft = -(F.softmax(widen(teacher.detach()) / temperature, dim=1) * F.log_softmax(z, dim=1)).sum(1)
    scale = temperature**2 if mode == "code" else 1.0
    hard_mean = clip_mean(hard, labelled if label_weight is None else labelled * label_weight)
    return (1 - imitation) * hard_mean + imitation * scale * clip_mean(soft, teacher_weight)


def _require_options(imitation: float, mode: str) -> None:
    if not 0 <= imitation <= 1:
        raise ValueError(f"imitation must lie in [0, 1]: {imitation}")
    if mode not in ("paper", "code"):
        raise ValueError(f"mode must be 'paper' or 'code': {mode!r}")
