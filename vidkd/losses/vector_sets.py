"""What the family shares: feature maps as sets of vectors, brought to one scale, and the distances that are 1 for unrelated features.

The unit. `position` is half the mean squared distance of vectors whose mean squared length is 1, so that it is 0 for equal features, 1 for
unrelated ones (an independent draw around zero) and at most 2 for opposite ones, whatever the number of channels and positions and the
scale of the features. All others are in the same unit. Each clip has its own scale, so that its loss does not depend on the rest of the
batch. Features that are never negative have a mean in common: unrelated ones then cost less, in `pooled` and `gram` most of all.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vidkd.losses.reduction import widen

# A student whose RMS is below this share of the teacher's is scaled as if it were that share (and so a vector among those of its clip): a
# network whose features are all but dead would otherwise get an unbounded gradient out of the division.
LEAST_SHARE = 1e-2
# Entries of one matrix of pairs over several clips: 2 MiB in float32 stays in a processor's cache and is reused by the allocator (4 times
# faster); with less the many small operations of `transport` count.
CHUNK_ENTRIES = 2**19
# Entries of one such matrix over the whole batch that the backward pass may keep: 16 MiB in float32.
KEPT_ENTRIES = 2**22


def vector_sets(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps as sets of vectors on a common scale: (B, N, C) and (B, M, C), N and M their numbers of positions.

    student, teacher: (B, C, T, H, W), T, H, W free. Computed in float32 (float64 stays). No gradient reaches the teacher.
    Each side is divided by the RMS length of its own vectors in the clip (gradient flows through the student's), so the scale of the
    student does not count; lengths within a clip still do. The teacher's features all 0: see `mean_of_clips`.
    Raises ValueError for shapes that do not pair.
    """
    require_maps(student, teacher)
    S, T = (widen(features).flatten(2).transpose(1, 2) for features in (student, teacher.detach()))
    energy_S, energy_T = (vectors.square().sum((1, 2), keepdim=True) / vectors.shape[1] for vectors in (S, T))
    scale_T = torch.where(energy_T > 0, energy_T, 1.0).sqrt()
    energy_S = energy_S.clamp_min(LEAST_SHARE**2 * scale_T.square())
    # by a factor: in the backward pass a quotient takes twice the passes over the features
    return S * energy_S.rsqrt(), T * scale_T.reciprocal()


def descriptor_distance(descriptor_S: Tensor, descriptor_T: Tensor) -> Tensor:
    """1 - cosine of descriptors of clips, (B, K) each -> (B,), in [0, 2]: half the squared distance of their unit vectors."""
    energy_S, energy_T = (x.square().sum(1, keepdim=True) for x in (descriptor_S, descriptor_T))
    energy_T = torch.where(energy_T > 0, energy_T, 1.0)
    energy_S = energy_S.clamp_min(LEAST_SHARE**2 * energy_T)
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
    """Raises ValueError unless both are (B, C, T, H, W), of as many clips and channels."""
    if student.ndim != 5 or teacher.ndim != 5 or student.shape[:2] != teacher.shape[:2]:
        shapes = f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
        raise ValueError(f"features are (B, C, T, H, W) of equal B and C; a projection brings channels to one number: {shapes}")
