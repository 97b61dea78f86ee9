"""Yolo heads: the boxes that their raw output encodes, and the overlap of boxes, differentiable, with relatives of the IoU that still
pull where boxes do not meet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vidkd.losses.reduction import widen

IoUKind = Literal["iou", "giou", "diou", "ciou"]
BoxForm = Literal["xyxy", "centre"]

# Below this (in the square of the boxes' unit) an area or a squared length counts as this, so that no quotient has an infinite slope.
SMALLEST = 1e-7
# e^10 times its anchor is larger than any frame; beyond it, squares of the sizes would leave float32.
LARGEST_LOG_SIZE = 10.0


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """One yolo head, of raw output (B, A * (5 + classes), h, w): per anchor x, y, w, h, objectness and the classes, none yet squashed.

    anchors: the (width, height) of this head's own A anchors (those of its mask), in pixels of the network's input. stride: input pixels a
    cell. classes: their number. scale_x_y: as in a YOLOv4 cfg; 1 in YOLOv3. unused_anchors: anchors of the network that no head uses; see
    `assign`.
    """

    anchors: tuple[tuple[float, float], ...]
    stride: int
    classes: int
    scale_x_y: float = 1.0
    unused_anchors: tuple[tuple[float, float], ...] = ()


def split_head(raw: Tensor, spec: HeadSpec) -> Tensor:
    """(B, A * (5 + C), h, w) -> (B, A, h, w, 5 + C) in at least float32. Raises ValueError if the channels are not those of `spec`."""
    anchors, entries = len(spec.anchors), 5 + spec.classes
    if raw.shape[1] != anchors * entries:
        raise ValueError(f"a head of {anchors} anchors and {spec.classes} classes is (B, {anchors * entries}, h, w): {tuple(raw.shape)}")
    return widen(raw).reshape(len(raw), anchors, entries, *raw.shape[2:]).permute(0, 1, 3, 4, 2)


def split_heads(heads: Sequence[Tensor], specs: Sequence[HeadSpec]) -> list[Tensor]:
    """`split_head` of each; raises ValueError also where there are not as many heads as specs."""
    return [split_head(raw, spec) for raw, spec in zip(heads, specs, strict=True)]


def boxes_of_cells(cells: Tensor, spec: HeadSpec) -> Tensor:
    """Boxes of every cell and anchor, xyxy in pixels of the input, not clipped: (B, A, h, w, 5 + C) of `split_head` -> (B, A, h, w, 4).

    Centre: (scale_x_y * sigmoid(x) - (scale_x_y - 1) / 2 + cell) * stride; size: anchor * exp(w), of w at most 10. Differentiable.
    """
    rows, columns = (torch.arange(n, device=cells.device, dtype=cells.dtype) for n in cells.shape[2:4])
    corner = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    return boxes_at(cells, corner, anchor_sizes(spec, cells)[:, None, None], spec)


def boxes_at(cells: Tensor, corner: Tensor, anchor: Tensor, spec: HeadSpec) -> Tensor:
    """Boxes of raw vectors (..., 5 + C) in the cells of column and row `corner` (..., 2), with anchors (..., 2) in pixels."""
    centre = (offsets_in_cell(cells, spec) + corner) * spec.stride
    size = anchor * cells[..., 2:4].clamp_max(LARGEST_LOG_SIZE).exp()
    return corners_from_centre(torch.cat([centre, size], dim=-1))


def offsets_in_cell(cells: Tensor, spec: HeadSpec) -> Tensor:
    """Where raw vectors (..., 5 + C) put the centre, in cells from the cell's own corner: (..., 2)."""
    return spec.scale_x_y * cells[..., :2].sigmoid() - (spec.scale_x_y - 1) / 2


def anchor_sizes(spec: HeadSpec, like: Tensor) -> Tensor:
    """The anchors (A, 2) in pixels, of the type and on the device of `like`."""
    return torch.tensor(spec.anchors, dtype=like.dtype, device=like.device)


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
