"""First and second moments of the features of a clip: what occurs, and what occurs together, wherever it is."""

from torch import Tensor

from vidkd.losses.shift_tolerant.sets import by_clips, descriptor_distance, full_precision, mean_of_clips, vector_sets


def pooled(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of the mean vectors, ||mean_i s_i - mean_j t_j||^2 / (2 ||mean_j t_j||^2): 0 for equal means.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'). The student's mean is divided by its own
    length too, which makes the value of a clip 1 - cosine of the mean vectors. It is measured by the mean of the teacher and not by
    its single vectors: those of many independent positions average to little, and the weight would depend on their number.
    Returns a scalar, 1 for unrelated means, in [0, 2]. No gradient reaches the teacher; N + M vectors are all
    that is kept. Raises ValueError for features that do not pair.
    Source: MARS (Crasto et al. 2019), here with the family's unit; `pooled_feature_mse` is the term as published.
    """
    S, T = vector_sets(student, teacher)
    return mean_of_clips(descriptor_distance(S.mean(1), T.mean(1)), teacher)


def gram(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of second moments, ||S'S/N - T'T/M||_F^2 / (2 ||T'T/M||_F^2): 0 where the moments are equal.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'); S (N, C) and T (M, C) are their vectors. Uncentred, so the means count too.
    The student's moments are divided by their own norm too, which makes the value of a clip 1 - cosine of the two matrices, in [0, 1].
    1 for clips whose features lie in unlike directions. Features that are drawn alike have alike
    moments, unlike positions: for white noise in both what is left is sampling, (C + 1) / (C + N + 1), little where N is above C.
    Returns a scalar. No gradient reaches the teacher. Memory beyond `position`: some seven matrices (C, C), for
    a few clips at a time (at least one) where C^2 is large.
    Raises ValueError for features that do not pair.
    Source: second moments after Gatys et al. 2015 (arXiv 1508.06576); as part of this family a reconstruction.
    """
    S, T = vector_sets(student, teacher)

    def distance(s: Tensor, t: Tensor) -> Tensor:
        return descriptor_distance(_second_moments(s), _second_moments(t))

    with full_precision(S):
        return mean_of_clips(by_clips(distance, S, T, entries=S.shape[2] ** 2), teacher)


def _second_moments(vectors: Tensor) -> Tensor:
    """(B, N, C) -> (B, C*C)."""
    return (vectors.transpose(1, 2) @ vectors).flatten(1) / vectors.shape[1]
