"""What the family shares: feature maps as sets of vectors, brought to one scale, and the distances that are 1 for unrelated features.

The unit. `position` is half the mean squared distance of vectors whose mean squared length is 1, so that it is 0 for equal features, 1 for
unrelated ones (an independent draw around zero) and at most 2 for opposite ones, whatever the number of channels and positions and the
scale of the features. All others are in the same unit. Each clip has its own scale, so that its loss does not depend on the rest of the
batch. Features that are never negative have a mean in common: unrelated ones then cost less, in `pooled` and `gram` most of all.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vidkd.losses.reduction import widen

Normalise = Literal["clip", "vector", "teacher"]

# A student whose RMS is below this share of the teacher's is scaled as if it were that share (and so a vector among those of its clip): a
# network whose features are all but dead would otherwise get an unbounded gradient out of the division.
LEAST_SHARE = 1e-2
# Entries of one matrix of pairs over several clips: 2 MiB in float32 stays in a processor's cache and is reused by the allocator (4 times
# faster); with less the many small operations of `transport` count.
CHUNK_ENTRIES = 2**19
# Entries of one such matrix over the whole batch that the backward pass may keep: 16 MiB in float32.
KEPT_ENTRIES = 2**22


def vector_sets(student: Tensor, teacher: Tensor, normalise: Normalise) -> tuple[Tensor, Tensor]:
    """Both maps as sets of vectors on a common scale: (B, N, C) and (B, M, C), N and M their numbers of positions.

    student, teacher: (B, C, T, H, W), T, H, W free. Computed in float32 (float64 stays). No gradient reaches the teacher.
    normalise="clip": each side is divided by the RMS length of its own vectors in the clip (gradient flows through the student's), so the
    scale of the student does not count; lengths within a clip still do.
    normalise="vector": every vector is brought to length 1, so distances are 1 - cosine; vectors shorter than a hundredth of the RMS stay
    shorter than 1, and zeros stay zeros.
    normalise="teacher": both sides are divided by the teacher's RMS: the student's scale counts, and the loss is not bounded (it grows as
    the square of the ratio of scales, `gram` as its fourth power).
    The teacher's features all 0: see `mean_of_clips`. Raises ValueError for shapes that do not pair.
    """
    require_maps(student, teacher)
    S, T = _flat(student), _flat(teacher.detach())
    energy_S, energy_T = _mean_square_length(S), _mean_square_length(T)
    scale_T = torch.where(energy_T > 0, energy_T, 1.0).sqrt()
    if normalise == "teacher":
        return S / scale_T, T / scale_T
    energy_S = energy_S.clamp_min(LEAST_SHARE**2 * scale_T.square())
    if normalise == "clip":
        # by a factor: in the backward pass a quotient takes twice the passes over the features
        return S * energy_S.rsqrt(), T * scale_T.reciprocal()
    return _unit_vectors(S, energy_S.detach()), _unit_vectors(T, scale_T.square())


def descriptor_distance(descriptor_S: Tensor, descriptor_T: Tensor, normalise: Normalise) -> Tensor:
    """Half the squared distance of descriptors of clips, (B, K) each -> (B,), in units of the teacher's size: 1 for orthogonal ones.

    Unless normalise="teacher" the student's descriptor is divided by its own norm, which makes this 1 - cosine, in [0, 2].
    """
    energy_S, energy_T = (x.square().sum(1, keepdim=True) for x in (descriptor_S, descriptor_T))
    energy_T = torch.where(energy_T > 0, energy_T, 1.0)
    energy_S = energy_T if normalise == "teacher" else energy_S.clamp_min(LEAST_SHARE**2 * energy_T)
    return half_square(descriptor_S / energy_S.sqrt() - descriptor_T / energy_T.sqrt())


def half_square(difference: Tensor) -> Tensor:
    """Half the squared length along the last dimension: the cost of one match."""
    return difference.square().sum(-1) / 2


def cost_matrix(S: Tensor, T: Tensor) -> Tensor:
    """||s_i - t_j||^2 / 2 of all pairs, (B, N, C) and (B, M, C) -> (B, N, M), by the expanded square, so 0 only to some 1e-6."""
    half_S, half_T = half_square(S), half_square(T)
    return (half_S[:, :, None] + half_T[:, None, :]).baddbmm_(S, T.transpose(1, 2), alpha=-1)


def mixed(weights: Tensor, vectors: Tensor) -> Tensor:
    """The product of weights (B, N, M) and vectors (B, M, C) -> (B, N, C), in memory by channels, as from `vector_sets`."""
    return (vectors.transpose(1, 2) @ weights.transpose(1, 2)).transpose(1, 2)


def mean_of_clips(loss_B: Tensor, teacher: Tensor) -> Tensor:
    """Mean of the losses (B,), of which one counts 0, without gradient, where the teacher's features are all 0: nothing to imitate."""
    alive = teacher.detach().flatten(1).ne(0).any(1)
    return torch.where(alive, loss_B, 0.0).mean()


def by_clips(function: Callable[[Tensor, Tensor], Tensor], S: Tensor, T: Tensor, *, entries: int) -> Tensor:
    """function(S, T) of sets (B, N, C) and (B, M, C), called on a few clips at a time, at least one; results (B, ...) joined.

    entries: those of one matrix of one clip, N*M for all pairs. Where such matrices are too many for the whole batch (`KEPT_ENTRIES`),
    the backward pass computes them again.
    """
    parts = _parts(S, T, entries)
    if torch.is_grad_enabled() and len(S) * entries > KEPT_ENTRIES:
        return torch.cat([checkpoint(function, s, t, use_reentrant=False, preserve_rng_state=False) for s, t in parts])
    return torch.cat([function(s, t) for s, t in parts])


def with_gradient(function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], S: Tensor, T: Tensor, *, entries: int) -> Tensor:
    """As `by_clips`, for a function that gives its values (B,) and their gradient in S (B, N, C) itself: nothing else is kept."""
    with torch.no_grad():
        values, gradients = (torch.cat(parts) for parts in zip(*(function(s, t) for s, t in _parts(S, T, entries)), strict=True))
    return values + (gradients * (S - S.detach())).sum((1, 2))


def _parts(S: Tensor, T: Tensor, entries: int) -> Iterable[tuple[Tensor, Tensor]]:
    clips = max(1, CHUNK_ENTRIES // entries)
    return zip(torch.split(S, clips), torch.split(T, clips), strict=True)


def full_precision(x: Tensor) -> torch.autocast:
    """A region where autocast leaves products of matrices in float32."""
    return torch.autocast(x.device.type, enabled=False)


def require_maps(student: Tensor, teacher: Tensor) -> None:
    """Raises ValueError unless both are (B, C, T, H, W), not empty, of as many clips and channels."""
    shapes = f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
    if student.ndim != 5 or teacher.ndim != 5:
        raise ValueError(f"features are (B, C, T, H, W): {shapes}")
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher differ in the number of clips: {shapes}")
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(f"student and teacher differ in channels: {shapes}; bring them to one number by a projection first")
    if student.numel() == 0 or teacher.numel() == 0:
        raise ValueError(f"empty features: {shapes}")


def _flat(features: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, T*H*W, C), positions in the order t, h, w."""
    return widen(features).flatten(2).transpose(1, 2)


def _mean_square_length(vectors: Tensor) -> Tensor:
    """(B, N, C) -> (B, 1, 1)."""
    return vectors.square().sum((1, 2), keepdim=True) / vectors.shape[1]


def _unit_vectors(vectors: Tensor, energy: Tensor) -> Tensor:
    lengths = vectors.square().sum(-1, keepdim=True).clamp_min(LEAST_SHARE**2 * energy).sqrt()
    return vectors / lengths
