"""Position by position: the foil of the family, which tolerates no shift."""

import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.reduction import widen
from vidkd.losses.shift_tolerant.sets import half_square, mean_of_clips, require_maps, vector_sets


def position(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared distance of the vectors at the same position, mean_i ||s_i - t_i||^2 / 2: 0 for equal features.

    student: (B, C, T, H, W); teacher: (B, C, T', H', W'), resampled to the student's grid first: averaged over areas along axes that get
    shorter, then interpolated linearly along those that get longer. The value of a clip is 1 - cosine of the two whole maps.
    Returns a scalar, 1 for unrelated features, in [0, 2]. No gradient reaches the teacher.
    Raises ValueError for features that do not pair. Source: plain feature regression, here with the family's unit.
    """
    require_maps(student, teacher)
    S, T = vector_sets(student, _resample(teacher.detach(), student))
    return mean_of_clips(half_square(S - T).mean(1), teacher)


def _resample(teacher: Tensor, student: Tensor) -> Tensor:
    grid_S, grid_T = student.shape[2:], teacher.shape[2:]
    frames, height, width = (min(s, t) for s, t in zip(grid_S, grid_T, strict=True))
    smaller = (frames, height, width)
    if smaller != tuple(grid_T):
        teacher = F.adaptive_avg_pool3d(widen(teacher), smaller)
    if smaller != tuple(grid_S):
        teacher = F.interpolate(widen(teacher), list(grid_S), mode="trilinear", align_corners=False)
    return teacher
