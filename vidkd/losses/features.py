"""Matching pooled features: what MARS does between its flow teacher and its RGB student."""

from torch import Tensor

from vidkd.losses.reduction import clip_mean, require_same_shape, widen


def pooled_feature_mse(student: Tensor, teacher: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean squared difference of average-pooled features, over channels and clips.

    student, teacher: (B, C, T, H, W), or (B, C) already pooled; T, H and W may differ, C may not. weight: optional (B,), see `clip_mean`.
    Returns a scalar >= 0; no gradient reaches the teacher. MARS weighs it by 50 beside the cross-entropy.
    Raises ValueError for other shapes. Source: Crasto et al. 2019 (CVPR), MARS; term and weight as in the authors' code.
    """
    pooled_S, pooled_T = _pool(student), _pool(teacher.detach())
    require_same_shape(pooled_S, pooled_T, ndim=2)
    return clip_mean((pooled_S - pooled_T).square().mean(1), weight)


def _pool(features: Tensor) -> Tensor:
    if features.ndim not in (2, 5):
        raise ValueError(f"features are (B, C, T, H, W) or pooled (B, C): {tuple(features.shape)}")
    wide = widen(features)
    return wide if features.ndim == 2 else wide.mean((2, 3, 4))
