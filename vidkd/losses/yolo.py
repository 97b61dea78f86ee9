"""The loss of a yolo head, with the options of Darknet's cfg files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.yolo_heads import HeadSpec, IoUKind, anchor_sizes, box_iou, boxes_at, boxes_of_cells, covered_share, split_heads
from vidkd.losses.yolo_targets import Cells, Flat, Truths, assign, box_targets, flatten_truths, padded_boxes


@dataclass(frozen=True, kw_only=True)
class YoloLossOptions:
    """Options of `yolo_loss`; the names are Darknet's where it has one, and the defaults those of its YOLOv3 where a cfg states nothing
    (from memory). Raises ValueError for values out of range.

    Args:
        ignore_thresh: a prediction that overlaps any true box by more than this IoU is not punished for its objectness; the same share of
            a prediction's own area inside an ignored region spares it too.
        iou_thresh: a box also belongs to every anchor that it fits better than this IoU; 1 keeps it to the best.
        iou_loss: of the boxes: mse of YOLOv3, or one minus iou, giou, diou or ciou.
        iou_normalizer: weight of the boxes (YOLOv4's cfgs state 0.07); a few times 1 suits the IoU losses.
        obj_normalizer: weight of the objectness.
        cls_normalizer: weight of the classes.
        box_iou_bound: boxes that overlap their truth by at least this IoU cost nothing (ours, not Darknet's); none by default.
    """

    ignore_thresh: float = 0.5
    iou_thresh: float = 1.0
    iou_loss: Literal["mse"] | IoUKind = "mse"
    iou_normalizer: float = 1.0
    obj_normalizer: float = 1.0
    cls_normalizer: float = 1.0
    box_iou_bound: float | None = None

    def __post_init__(self) -> None:
        for name in ("ignore_thresh", "iou_thresh", "box_iou_bound"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is an IoU in [0, 1]: {value}")
        if min(self.iou_normalizer, self.obj_normalizer, self.cls_normalizer) < 0:
            raise ValueError(f"normalisers are not negative: {self}")


class YoloTerms(NamedTuple):
    """Scalars, each already times its normaliser; `total` is the sum of the other three."""

    box: Tensor
    objectness: Tensor
    classes: Tensor
    total: Tensor


DARKNET = YoloLossOptions()


def yolo_loss(
    heads: Sequence[Tensor], truths: Sequence[Truths], specs: Sequence[HeadSpec], *, options: YoloLossOptions = DARKNET
) -> YoloTerms:
    """The loss of raw yolo heads against the true boxes: each term summed over an image's cells and heads, averaged over the images.

    heads: raw outputs (B, A * (5 + C), h, w), one for each of `specs`, of one input size. truths: one for each of the B images; which
    cell is responsible for which box: `assign`. A cell with several boxes learns each.
    box: of the responsible cells. "mse" is (2 - wh/WH) times: 1/2 squared error of the two log sizes, and for the two offsets the binary
    cross-entropy less its minimum, which is what leaves Darknet's gradient, sigmoid - target, in the raw numbers (times scale_x_y).
    Other kinds: 1 - IoU; their gradient is that of the value, where Darknet has an approximation of its own.
    objectness: binary cross-entropy of every cell, towards the confidence of its box (1 by default) where it is responsible for one, else
    towards 0 unless it is spared (`ignore_thresh`). classes: of the responsible cells, summed over classes; a cell of
    several boxes is asked for all their classes at once.
    Rows count by `Truths.weight`. Every term is >= 0 (up to rounding), and 0 for a prediction that is right and sure: cross-entropies are
    taken less the entropy of soft targets.
    Raises ValueError for heads that do not fit `specs`.
    Source: Darknet (YOLOv3, arXiv 1804.02767; YOLOv4, arXiv 2004.10934), from memory of its code.
    """
    cells_of = split_heads(heads, specs)
    flat = flatten_truths(truths, cells_of[0])
    grids = [(cells.shape[2], cells.shape[3]) for cells in cells_of]
    assigned = assign(flat, specs, grids, iou_thresh=options.iou_thresh)
    sums = [_head(c, a, flat, truths, s, options) for c, a, s in zip(cells_of, assigned, specs, strict=True)]
    box, objectness, classes = torch.stack(sums).sum(0) / len(truths)
    return YoloTerms(box, objectness, classes, box + objectness + classes)


def bernoulli_kl(logits: Tensor, target: Tensor) -> Tensor:
    """KL(Bernoulli(target) || Bernoulli(sigmoid(logits))), entry by entry: binary cross-entropy less its minimum. No gradient in target."""
    target = target.detach()
    entropy = torch.special.entr(target) + torch.special.entr(1 - target)
    divergence: Tensor = F.binary_cross_entropy_with_logits(logits, target, reduction="none") - entropy
    return divergence


def _head(cells: Tensor, assigned: Cells, flat: Flat, truths: Sequence[Truths], spec: HeadSpec, options: YoloLossOptions) -> Tensor:
    """The three terms (3,) of one head, summed over the batch."""
    spared = _near_a_truth(cells, truths, spec, options.ignore_thresh)
    rows = assigned.select(flat.weight[assigned.truth] > 0)
    weight = flat.weight[rows.truth]
    box = (weight * _box_terms(cells, rows, flat.boxes[rows.truth], spec, options)).sum()
    classes = (weight * _class_terms(cells[rows.place][:, 5:], rows, flat.labels[rows.truth], cells.shape[:4])).sum()
    objectness = _objectness_terms(cells[..., 4], assigned, flat, spared).sum()
    return torch.stack([options.iou_normalizer * box, options.obj_normalizer * objectness, options.cls_normalizer * classes])


@torch.no_grad()
def _near_a_truth(cells: Tensor, truths: Sequence[Truths], spec: HeadSpec, threshold: float) -> Tensor:
    """Which cells (B, A, h, w) are too near a true box, or too far inside an ignored region, to be punished for their objectness."""
    boxes = boxes_of_cells(cells, spec)[..., None, :]
    found, regions = (padded_boxes(truths, cells, ignored=ignored)[:, None, None, None] for ignored in (False, True))
    return (box_iou(boxes, found).amax(-1) > threshold) | (covered_share(boxes, regions).amax(-1) > threshold)


def _objectness_terms(logits: Tensor, rows: Cells, flat: Flat, spared: Tensor) -> Tensor:
    asked = flat.weight[rows.truth]
    target = _largest_at(logits, rows, flat.confidence[rows.truth] * (asked > 0))
    has_box = _largest_at(logits, rows, torch.ones_like(asked)) > 0
    weight = torch.where(has_box, _largest_at(logits, rows, asked), (~spared).to(logits.dtype))
    return weight * bernoulli_kl(logits, target)


def _largest_at(like: Tensor, rows: Cells, values: Tensor) -> Tensor:
    """Zeros of the shape (B, A, h, w), with the largest value of the rows of each cell."""
    return torch.zeros_like(like).flatten().scatter_reduce(0, _flat_place(rows, like.shape), values, "amax").view_as(like)


def _flat_place(rows: Cells, shape: Sequence[int]) -> Tensor:
    return ((rows.image * shape[1] + rows.anchor) * shape[2] + rows.row) * shape[3] + rows.column


def _box_terms(cells: Tensor, rows: Cells, boxes: Tensor, spec: HeadSpec, options: YoloLossOptions) -> Tensor:
    raw = cells[rows.place]
    predicted = boxes_at(raw, rows.corner, anchor_sizes(spec, raw)[rows.anchor], spec)
    if options.iou_loss == "mse":
        input_area = cells.shape[2] * cells.shape[3] * spec.stride**2
        loss = _mse_terms(raw, box_targets(boxes, rows, spec), spec) * (2 - (boxes[:, 2:] - boxes[:, :2]).prod(1) / input_area)
    else:
        loss = 1 - box_iou(predicted, boxes, kind=options.iou_loss)
    if options.box_iou_bound is None:
        return loss
    return loss * (box_iou(predicted, boxes) < options.box_iou_bound)


def _mse_terms(raw: Tensor, target: Tensor, spec: HeadSpec) -> Tensor:
    wanted = ((target[:, :2] + (spec.scale_x_y - 1) / 2) / spec.scale_x_y).clamp(0, 1)
    offsets = spec.scale_x_y * bernoulli_kl(raw[:, :2], wanted)
    return (offsets + (raw[:, 2:4] - target[:, 2:]).square() / 2).sum(1)


def _class_terms(logits: Tensor, rows: Cells, labels: Tensor, shape: Sequence[int]) -> Tensor:
    places, which = torch.unique(_flat_place(rows, shape), return_inverse=True)
    wanted = logits.new_zeros(len(places), logits.shape[1])
    wanted[which, labels] = 1
    return bernoulli_kl(logits, wanted[which]).sum(1)
