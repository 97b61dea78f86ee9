"""Matrices of all pairs of positions, for few clips at a time."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Entries of one matrix over several clips: 1 MiB in float32 stays in a processor's cache and is reused by the allocator (4 times faster).
CHUNK_ENTRIES = 2**18
# Entries of one matrix over the whole batch that the backward pass may keep: 16 MiB in float32.
KEPT_ENTRIES = 2**22


def by_clips(function: Callable[[Tensor, Tensor], Tensor], S: Tensor, T: Tensor, *, entries: int, keeps: bool) -> Tensor:
    """function(S, T) of sets (B, N, C) and (B, M, C), called on a few clips at a time, at least one; results (B, ...) joined.

    entries: those of one matrix of one clip, N*M for all pairs. keeps: whether the function keeps such matrices for the backward pass; if
    they are too many for the whole batch (`KEPT_ENTRIES`), they are computed again there instead.
    """
    clips = max(1, CHUNK_ENTRIES // entries)
    parts = zip(torch.split(S, clips), torch.split(T, clips), strict=True)
    if keeps and len(S) * entries > KEPT_ENTRIES:
        return torch.cat([checkpoint(function, s, t, use_reentrant=False, preserve_rng_state=False) for s, t in parts])
    return torch.cat([function(s, t) for s, t in parts])
