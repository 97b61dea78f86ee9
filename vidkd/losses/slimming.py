"""Sparsity of filters: a penalty by which batch normalisation turns whole filters off before they are pruned."""

from collections.abc import Iterable

import torch
from torch import Tensor


def scale_l1(scales: Iterable[Tensor]) -> Tensor:
    """Sum of |gamma| over the scales (C_i,) of batch normalisations: a scalar >= 0, whose gradient is the sign of each scale (0 at 0).

    The paper weighs it by 1e-4 or 1e-5 next to the cross-entropy.
    Source: Liu et al. 2017, network slimming (arXiv 1708.06519), eq. 1.
    """
    return torch.stack([scale.abs().sum() for scale in scales]).sum()
