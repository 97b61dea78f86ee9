"""Matrices of all pairs of positions, for few clips at a time."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Entries of one matrix over several clips: 2 MiB in float32 stays in a processor's cache and is reused by the allocator (4 times faster);
# with less the many small operations of `transport` count.
CHUNK_ENTRIES = 2**19
# Entries of one matrix over the whole batch that the backward pass may keep: 16 MiB in float32.
KEPT_ENTRIES = 2**22


def by_clips(function: Callable[[Tensor, Tensor], Tensor], S: Tensor, T: Tensor, *, entries: int, keeps: bool) -> Tensor:
    """function(S, T) of sets (B, N, C) and (B, M, C), called on a few clips at a time, at least one; results (B, ...) joined.

    entries: those of one matrix of one clip, N*M for all pairs. keeps: whether the function keeps such matrices for the backward pass; if
    they are too many for the whole batch (`KEPT_ENTRIES`), they are computed again there instead.
    """
    parts = _parts(S, T, entries)
    if keeps and len(S) * entries > KEPT_ENTRIES:
        return torch.cat([checkpoint(function, s, t, use_reentrant=False, preserve_rng_state=False) for s, t in parts])
    return torch.cat([function(s, t) for s, t in parts])


def with_gradient_by_clips(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], S: Tensor, T: Tensor, *, entries: int
) -> tuple[Tensor, Tensor]:
    """As `by_clips`, for a function that gives its values (B,) and their gradient in S (B, N, C) itself, which `with_gradient` joins."""
    with torch.no_grad():
        values, gradients = zip(*(function(s, t) for s, t in _parts(S, T, entries)), strict=True)
    return torch.cat(values), torch.cat(gradients)


def with_gradient(value: Tensor, gradient: Tensor, S: Tensor) -> Tensor:
    """The values (B,) with this gradient (B, N, C), both constants, in S (B, N, C)."""
    return value + (gradient * (S - S.detach())).sum((1, 2))


def _parts(S: Tensor, T: Tensor, entries: int) -> Iterable[tuple[Tensor, Tensor]]:
    clips = max(1, CHUNK_ENTRIES // entries)
    return zip(torch.split(S, clips), torch.split(T, clips), strict=True)
