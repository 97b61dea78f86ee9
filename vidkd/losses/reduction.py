"""What every loss does the same way: precision inside, shape checks, the mean over clips."""

import torch
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """`x` in at least float32 (float64 stays). The losses use no operation that autocast would lower again."""
    return x if x.dtype == torch.float64 else x.float()


def require_same_shape(student: Tensor, teacher: Tensor, *, ndim: int | None = None, hint: str = "") -> None:
    """Raises ValueError unless both shapes are equal and, where `ndim` is given, of that many dimensions: others might broadcast."""
    if student.shape != teacher.shape or ndim not in (None, student.ndim):
        wanted = "" if ndim is None else f", of {ndim} dimensions"
        raise ValueError(f"expected equal shapes{wanted}: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}{hint}")


def clip_mean(loss_B: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of per-clip losses (B,): sum(weight * loss) / sum(weight), plain mean without weights.

    weight: (B,), not negative; no gradient flows into it. A clip of weight 0 drops out; 0 if all drop out.
    """
    if weight is None:
        return loss_B.mean()
    weight = weight.detach().to(loss_B.dtype)
    return (weight * loss_B).sum() / weight.sum().clamp_min(torch.finfo(loss_B.dtype).tiny)
