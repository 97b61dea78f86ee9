"""Pooled features: where anything is does not count at all."""

from torch import Tensor

from vidkd.losses.reduction import clip_mean
from vidkd.losses.shift_tolerant.sets import Normalise, clip_losses, descriptor_distance, vector_sets


def pooled(student: Tensor, teacher: Tensor, *, normalise: Normalise = "clip", weight: Tensor | None = None) -> Tensor:
    """Half the squared distance of the mean vectors, ||mean_i s_i - mean_j t_j||^2 / (2 ||mean_j t_j||^2): 0 for equal means.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'). normalise: see `vector_sets`; unless "teacher", the student's mean is divided by
    its own length, which makes the value of a clip 1 - cosine of the mean vectors. It is measured by the mean of the teacher and not by
    its single vectors: those of many independent positions average to little, and the weight would depend on their number.
    weight: optional (B,), see `clip_mean`. Returns a scalar, 1 for unrelated means, in [0, 2] unless normalise="teacher".
    No gradient reaches the teacher; N + M vectors are all that is kept. Raises ValueError for features that do not pair.
    Source: MARS (Crasto et al. 2019), here with the family's unit; `pooled_feature_mse` is the term as published.
    """
    S, T = vector_sets(student, teacher, normalise)
    loss = descriptor_distance(S.mean(1), T.mean(1), normalise)
    return clip_mean(clip_losses(loss, teacher), weight)
