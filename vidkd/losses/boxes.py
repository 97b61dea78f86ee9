"""Overlap of boxes, differentiable: IoU and its relatives that still pull where boxes do not meet."""

import math
from typing import Literal

import torch
from torch import Tensor

from vidkd.losses.reduction import widen

IoUKind = Literal["iou", "giou", "diou", "ciou"]
BoxForm = Literal["xyxy", "centre"]

# Below this (in the square of the boxes' unit) an area or a squared length counts as this, so that no quotient has an infinite slope.
SMALLEST = 1e-7


def box_iou(a: Tensor, b: Tensor, *, kind: IoUKind = "iou", form: BoxForm = "xyxy") -> Tensor:
    """Overlap of boxes with boxes, pair by pair, the leading dimensions broadcast: (..., 4) and (..., 4) -> (...).

    form="xyxy": x1 y1 x2 y2; form="centre": centre x, centre y, width, height. One unit for all, pixels or cells rather than shares of an
    image. All pairs of (N, 4) and (M, 4) are `box_iou(a[:, None], b)`. Differentiable in both arguments.
    kind: "iou" in [0, 1]; "giou" = iou - (hull - union) / hull in [-1, 1]; "diou" = iou - d^2 / c^2 in [-1, 1], d between the centres,
    c the hull's diagonal; "ciou" = diou - alpha v, v = (2/pi)^2 (difference of arctan(w/h))^2, alpha = v / (1 - iou + v) without gradient.
    Equal boxes give 1 for every kind. A box without area has "iou" 0 with everything; values and gradients are finite for every box, and
    a side below 0 counts as 0 at x1 or y1.
    Source: Rezatofighi et al. 2019 (arXiv 1902.09630), Zheng et al. 2020 (arXiv 1911.08287).
    """
    a, b = _corners(a, form), _corners(b, form)
    overlap = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - overlap
    iou = overlap / union.clamp_min(SMALLEST)
    if kind == "iou":
        return iou
    hull_low, hull_high = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    if kind == "giou":
        hull = _area(hull_low, hull_high)
        return iou - (hull - union) / hull.clamp_min(SMALLEST)
    apart = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).square().sum(-1)
    diou = iou - apart / (hull_high - hull_low).square().sum(-1).clamp_min(SMALLEST)
    return diou if kind == "diou" else diou - _aspect_penalty(a, b, iou)


def covered_share(boxes: Tensor, regions: Tensor) -> Tensor:
    """Share of each box's own area inside a region, in [0, 1]: (..., 4) and (..., 4) xyxy -> (...), leading dimensions broadcast.

    0 for a box without area.
    """
    a, b = _corners(boxes, "xyxy"), _corners(regions, "xyxy")
    overlap = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    return overlap / _area(a[..., :2], a[..., 2:]).clamp_min(SMALLEST)


def corners_from_centre(boxes: Tensor) -> Tensor:
    """Centre x, centre y, width, height -> x1 y1 x2 y2; (..., 4), in the same unit."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def centre_from_corners(boxes: Tensor) -> Tensor:
    """x1 y1 x2 y2 -> centre x, centre y, width, height; (..., 4), in the same unit."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def _corners(boxes: Tensor, form: str) -> Tensor:
    wide = widen(boxes) if form == "xyxy" else corners_from_centre(widen(boxes))
    return torch.cat([wide[..., :2], torch.maximum(wide[..., :2], wide[..., 2:])], dim=-1)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp_min(0).prod(-1)


def _aspect_penalty(a: Tensor, b: Tensor, iou: Tensor) -> Tensor:
    v = (2 / math.pi) ** 2 * (_slant(a) - _slant(b)).square()
    with torch.no_grad():
        alpha = v / (1 - iou + v).clamp_min(SMALLEST)
    return alpha * v


def _slant(boxes: Tensor) -> Tensor:
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return torch.atan(width / height.clamp_min(SMALLEST))
