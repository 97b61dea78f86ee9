"""Attention distillation: divergences between attention maps, from a flow teacher or from a prior.

Source: Liu, Chen, Zhang, Li, Rehg 2019 (arXiv 1904.03249). The normalised form of the term is read in sibling code of the same authors;
which direction of the divergence the paper uses is a reconstruction, so both are offered.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.reduction import require_same_shape, widen

Direction = Literal["student||teacher", "teacher||student"]
Support = Literal["frame", "clip"]

# In place of log 0 (a masked position): below log of the smallest float32, so its probability is 0, yet 0 * floor is no NaN.
LOG_ZERO = -104.0


def attention_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    direction: Direction = "student||teacher",
    over: Support = "frame",
) -> Tensor:
    """Divergence between two attention maps, averaged over clips and frames and divided by log(HW): 0 for equal maps.

    student, teacher: log-probabilities (B, T, H, W), noise-free. over="frame": each frame sums to one over H*W; over="clip": each clip
    sums to one over T*H*W, and the divisor is log(THW). Returns a scalar >= 0; no gradient reaches the teacher.
    "student||teacher" is KL(student || teacher). A position of log-probability -inf counts as log-probability -104.
    Raises ValueError if the shapes differ or there is a single position.
    Source: Liu et al. 2019 (arXiv 1904.03249), form of the term reconstructed.
    """
    require_same_shape(student, teacher, ndim=4, hint="; see resize_attention")
    p, q = _flat_support(student, over), _flat_support(teacher.detach(), over)
    if direction == "teacher||student":
        p, q = q, p
    return (p.exp() * (p - q)).sum(-1).mean() / math.log(p.shape[-1])


def attention_uniform_kl(student: Tensor, *, direction: Direction = "student||teacher", over: Support = "frame") -> Tensor:
    """Divergence of an attention map from the uniform prior (in place of the teacher of `attention_kl`); 0 for a flat map.

    student, over: as in `attention_kl`. With "student||teacher" the value is 1 - entropy / log(HW), in [0, 1], and 1 for a one-hot map.
    Raises ValueError as `attention_kl` does. Source: Liu et al. 2019 (arXiv 1904.03249), form of the term reconstructed.
    """
    frames = 1 if over == "frame" else student.shape[1]
    uniform = widen(student).new_full((), -math.log(frames * student.shape[2] * student.shape[3]))
    return attention_kl(student, uniform.expand(student.shape), direction=direction, over=over)


def resize_attention(logp: Tensor, size: tuple[int, int, int], *, over: Support = "frame") -> Tensor:
    """An attention map on another grid: probabilities averaged over the new cells, made to sum to one again, back as logs.

    logp: log-probabilities (B, T, H, W). size: the new (T, H, W); a finer grid repeats the old cells. over: the support that sums to one
    afterwards, as in `attention_kl`. Returns (B, *size) in float32 (float64 if logp is), differentiable; probabilities below float32's
    smallest positive number come back as that number.
    """
    if tuple(logp.shape[1:]) == tuple(size):
        return widen(logp)
    mass = F.adaptive_avg_pool3d(widen(logp).exp().unsqueeze(1), size).squeeze(1)
    total = mass.sum((2, 3) if over == "frame" else (1, 2, 3), keepdim=True)
    tiny = torch.finfo(torch.float32).tiny
    return (mass / total.clamp_min(tiny)).clamp_min(tiny).log()


def _flat_support(logp: Tensor, over: Support) -> Tensor:
    """Log-probabilities with the positions that sum to one in the last dimension, -inf replaced."""
    flat = widen(logp).flatten(2 if over == "frame" else 1)
    if flat.shape[-1] < 2:
        raise ValueError(f"attention over a single position means nothing: {tuple(logp.shape)}")
    return flat.nan_to_num(nan=math.nan, posinf=math.inf, neginf=LOG_ZERO)
