"""Teaching a key-frame selector where student and oracle disagree: how much, whether too much, and on which of near frames more.

All are reconstructions: which loss trains the LSTM of TKD (arXiv 1903.01522) could not be read. Frames that are padding, or on which the
oracle did not run, are left out by `mask`; their values may be anything, NaN too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.reduction import require_same_shape, widen

HUBER_DELTA = 0.1


def disagreement_huber(predicted: Tensor, disagreement: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Huber loss of the predicted disagreement, averaged over frames: d^2 / 2 up to |d| = delta, delta (|d| - delta / 2) beyond.

    predicted, disagreement: (B, T), in one unit (1 - F1, in [0, 1], say), of which delta is `HUBER_DELTA`. mask: (B, T) bool, the frames
    that count. Returns a scalar >= 0, 0 where no frame counts; no gradient reaches the disagreement. Raises ValueError if the shapes
    differ. Source: reconstruction.
    """
    predicted, disagreement, mask = _frames(predicted, disagreement, mask)
    return _mean(F.huber_loss(predicted, disagreement, delta=HUBER_DELTA, reduction="none"), mask)


def above_threshold_bce(logits: Tensor, disagreement: Tensor, *, threshold: float, mask: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of "the disagreement is above threshold", averaged over frames.

    logits: (B, T), the log odds of it. disagreement: (B, T). mask, value and errors as in `disagreement_huber`. Source: reconstruction.
    """
    logits, disagreement, mask = _frames(logits, disagreement, mask)
    above = (disagreement > threshold).to(logits.dtype)
    return _mean(F.binary_cross_entropy_with_logits(logits, above, reduction="none"), mask)


def order_in_window(predicted: Tensor, disagreement: Tensor, *, window: int, mask: Tensor | None = None) -> Tensor:
    """Logistic loss of the order of two frames, averaged over the pairs at most `window` frames apart that differ.

    For a pair of which frame i disagrees more than frame j: log(1 + exp(predicted_j - predicted_i)); log 2 where both are predicted alike.
    A selector under a budget of calls needs the order only. predicted, disagreement: (B, T), any units; mask, value and errors as in
    `disagreement_huber` (0 where no pair counts).
    Source: the pairwise loss of RankNet (Burges et al. 2005), from memory; its use here is a reconstruction.
    """
    predicted, disagreement, mask = _frames(predicted, disagreement, mask)
    more = disagreement[..., None] - _following(disagreement, window)
    higher = predicted[..., None] - _following(predicted, window)
    ordered = mask[..., None] & _following(mask, window) & (more != 0)
    return _mean(F.softplus(-more.sign() * higher), ordered)


def _following(frames: Tensor, window: int) -> Tensor:
    """(B, T) -> (B, T, window): the frames after each, zeros (False) beyond the end."""
    return F.pad(frames, (0, window)).unfold(1, window + 1, 1)[..., 1:]


def _frames(predicted: Tensor, disagreement: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both in at least float32, zeros where the mask is False, and the mask."""
    require_same_shape(predicted, disagreement, ndim=2)
    mask = torch.ones_like(predicted, dtype=torch.bool) if mask is None else mask.bool()
    return widen(predicted).masked_fill(~mask, 0), widen(disagreement.detach()).masked_fill(~mask, 0), mask


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    return (values * counts).sum() / counts.sum().clamp_min(1)
