"""Second moments of the channels: which features occur together, wherever they are."""

from torch import Tensor

from vidkd.losses.reduction import clip_mean
from vidkd.losses.shift_tolerant.chunks import by_clips
from vidkd.losses.shift_tolerant.sets import Normalise, clip_losses, descriptor_distance, full_precision, vector_sets


def gram(student: Tensor, teacher: Tensor, *, normalise: Normalise = "clip", weight: Tensor | None = None) -> Tensor:
    """Half the squared distance of second moments, ||S'S/N - T'T/M||_F^2 / (2 ||T'T/M||_F^2): 0 where the moments are equal.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'); S (N, C) and T (M, C) are their vectors. Uncentred, so the means count too.
    normalise: see `vector_sets`; unless "teacher", the student's moments are divided by their own norm, which makes the value of a clip
    1 - cosine of the two matrices, in [0, 1]. 1 for clips whose features lie in unlike directions. Features that are drawn alike have alike
    moments, unlike positions: for white noise in both what is left is sampling, (C + 1) / (C + N + 1), little where N is above C.
    weight: optional (B,), see `clip_mean`. Returns a scalar. No gradient reaches the teacher.
    Memory beyond `position`: some seven matrices (C, C), for a few clips at a time (at least one) where C^2 is large.
    Raises ValueError for features that do not pair.
    Source: second moments after Gatys et al. 2015 (arXiv 1508.06576); as part of this family a reconstruction.
    """
    S, T = vector_sets(student, teacher, normalise)

    def distance(s: Tensor, t: Tensor) -> Tensor:
        return descriptor_distance(_second_moments(s), _second_moments(t), normalise)

    with full_precision(S):
        loss = by_clips(distance, S, T, entries=S.shape[2] ** 2, keeps=True)
    return clip_mean(clip_losses(loss, teacher), weight)


def _second_moments(vectors: Tensor) -> Tensor:
    """(B, N, C) -> (B, C*C)."""
    return (vectors.transpose(1, 2) @ vectors).flatten(1) / vectors.shape[1]
