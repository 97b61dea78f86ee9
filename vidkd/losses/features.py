"""Matching features: pooled ones (MARS), and where they are strong (attention transfer)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.reduction import require_same_shape, widen


def pooled_feature_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of average-pooled features, over channels and clips.

    student, teacher: (B, C), means over positions. Returns a scalar >= 0; no gradient reaches the teacher. MARS weighs it by 50 next to the
    cross-entropy. Raises ValueError for other shapes. Source: Crasto et al. 2019 (CVPR), MARS; term and weight as in the authors' code.
    """
    require_same_shape(student, teacher, ndim=2)
    return (widen(student) - widen(teacher.detach())).square().mean()


def attention_transfer(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    *,
    form: Literal["paper", "code"] = "code",
    reference_size: int | None = None,
) -> Tensor:
    """Distance between normalised activation maps q = normalize(vec(mean_c A_c^2)), summed over layers, averaged over clips.

    student, teacher: as many maps (B, C, T, H, W) on both sides, at least one, in the same order. Channels may differ in number; maps of
    unlike T, H or W are averaged down to the smaller of each. No gradient reaches the teacher.
    form="paper": (1/2) sum_j ||q_S - q_T||_2, in [0, sqrt(2)/2] per layer; the norm is not squared.
    form="code": sum_j mean (q_S - q_T)^2 over clips and the N = T*H*W positions, in [0, 2/N] per layer, that is (2 - 2 cos(q_S, q_T)) / N.

    The caller multiplies by beta (the authors use 1e3 with "code" on CIFAR). In the code form the value falls as 1/N, so the same beta is
    T times weaker on a T x H x W map than on an H x W map. With `reference_size` = R every layer is multiplied by N / R: beta then means
    the same as on a map of R positions (64 for the 8 x 8 maps of CIFAR), whatever the size here. The paper form needs none.

    Raises ValueError for shapes that do not pair.
    Source: Zagoruyko & Komodakis 2017 (arXiv 1612.03928): "code" as in the authors' repository, "paper" from memory, unverified.
    """
    losses = [_one_layer(s, t.detach(), form, reference_size) for s, t in zip(student, teacher, strict=True)]
    return torch.stack(losses).sum()


def activation_map(features: Tensor, size: tuple[int, int, int] | None = None) -> Tensor:
    """normalize(vec(mean_c A_c^2)): where a network is active, as one unit vector per clip.

    features: (B, C, T, H, W). size: the (T, H, W) to average down to, after the channels are gone. Returns (B, T*H*W), not negative, norm 1
    (0 for a map of zeros). The mean over channels gives the same vector as the sum.
    """
    energy = widen(features).square().mean(1)
    if size is not None and tuple(energy.shape[1:]) != size:
        energy = F.adaptive_avg_pool3d(energy.unsqueeze(1), size).squeeze(1)
    return F.normalize(energy.flatten(1), dim=1)


def _one_layer(student: Tensor, teacher: Tensor, form: str, reference_size: int | None) -> Tensor:
    if student.ndim != 5 or teacher.ndim != 5 or len(student) != len(teacher):
        raise ValueError(f"features are (B, C, T, H, W) of the same clips: {tuple(student.shape)} and {tuple(teacher.shape)}")
    frames, height, width = (min(s, t) for s, t in zip(student.shape[2:], teacher.shape[2:], strict=True))
    size = (frames, height, width)
    difference = activation_map(student, size) - activation_map(teacher, size)
    if form == "paper":
        distance: Tensor = torch.linalg.vector_norm(difference, dim=1).mean()
        return distance / 2
    scale = 1.0 if reference_size is None else difference.shape[1] / reference_size
    return scale * difference.square().mean()
