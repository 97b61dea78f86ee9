"""Which cell and anchor is responsible for which true box, as Darknet assigns them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vidkd.losses.yolo_heads import HeadSpec, anchor_sizes, box_iou, centre_from_corners

Anchors = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Truths:
    """The boxes of one image that a detector has to find.

    boxes: (M, 4) xyxy in pixels of the network's input. labels: (M,) int64. weight: (M,) >= 0, how much the box counts (None: 1 each);
    with 0 nothing is asked of its cell, not even silence. confidence: (M,) in [0, 1], the objectness that its cell is taught (None: 1).
    ignore: (M,) bool, regions such as crowds in which a prediction is neither right nor wrong (None: none); their labels mean nothing.
    """

    boxes: Tensor
    labels: Tensor
    weight: Tensor | None = None
    confidence: Tensor | None = None
    ignore: Tensor | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Flat:
    """The true boxes of a whole batch, without the regions to ignore, one row per box; `image` (N,) says whose."""

    image: Tensor
    boxes: Tensor
    labels: Tensor
    weight: Tensor
    confidence: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Cells:
    """The cells of one head that are responsible for a true box, one row per pair: their place, and the row of that box in `Flat`."""

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    truth: Tensor

    @property
    def place(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Indices into (B, A, h, w, ...)."""
        return self.image, self.anchor, self.row, self.column

    @property
    def corner(self) -> Tensor:
        """Column and row (P, 2)."""
        return torch.stack([self.column, self.row], dim=-1)

    def select(self, which: Tensor) -> "Cells":
        """The rows of a mask (P,)."""
        return Cells(**{name: part[which] for name, part in vars(self).items()})


def flatten_truths(truths: Sequence[Truths], like: Tensor) -> Flat:
    """All true boxes of a batch in one, of the type and on the device of `like`; regions to ignore are left out."""
    kept = [_which(t, ignored=False) for t in truths]

    def joined(parts: Sequence[Tensor | None]) -> Tensor:
        # selected where the truths are, then sent once: truths that are on the device already never leave it
        rows = [
            torch.ones_like(keep, dtype=like.dtype)[keep] if part is None else part.detach()[keep]
            for part, keep in zip(parts, kept, strict=True)
        ]
        return torch.cat(rows).to(like.device)

    return Flat(
        image=joined([torch.full_like(t.labels, image) for image, t in enumerate(truths)]).long(),
        boxes=joined([t.boxes for t in truths]).to(like.dtype),
        labels=joined([t.labels for t in truths]).long(),
        weight=joined([t.weight for t in truths]).to(like.dtype),
        confidence=joined([t.confidence for t in truths]).to(like.dtype),
    )


def padded_boxes(truths: Sequence[Truths], like: Tensor, *, ignored: bool) -> Tensor:
    """(B, M + 1, 4): the boxes of each image, or with `ignored` its regions; boxes of zeros where there are fewer, and always the last."""
    boxes = [t.boxes.detach()[_which(t, ignored=ignored)].to(like.dtype) for t in truths]
    padded = torch.nn.utils.rnn.pad_sequence(boxes, batch_first=True)
    return F.pad(padded, (0, 0, 0, 1)).to(like.device)


def assign(flat: Flat, specs: Sequence[HeadSpec], grids: Sequence[tuple[int, int]], *, iou_thresh: float = 1.0) -> list[Cells]:
    """The cells that are responsible for each true box, for every head.

    A box belongs to the anchor that it fits best by the IoU of the two sizes laid on one centre, among the anchors of all heads, and to
    every further one that it fits better than `iou_thresh` (1: to none, as in YOLOv3). In each head that has such an anchor the cell
    that holds the box's centre is responsible; an anchor of two heads makes both so. grids: (h, w) of the heads. A box that fits one
    of the unused anchors of a head best is left without a cell, as in Darknet.
    Boxes without area, or whose centre is outside the input, are left out. Source: Darknet, YOLOv3 and YOLOv4.
    """
    anchors = list(dict.fromkeys([*(anchor for spec in specs for anchor in (*spec.anchors, *spec.unused_anchors))]))
    centres = centre_from_corners(flat.boxes)
    chosen = _chosen_anchors(centres[:, 2:], anchors, iou_thresh) & (centres[:, 2:] > 0).all(1, keepdim=True)
    return [_cells(flat, centres, chosen[:, [anchors.index(a) for a in s.anchors]], s, g) for s, g in zip(specs, grids, strict=True)]


def box_targets(boxes: Tensor, cells: Cells, spec: HeadSpec) -> Tensor:
    """What the cells should say of boxes (P, 4) xyxy: centre in cells from the cell's corner, log of size over anchor; (P, 4)."""
    centres = centre_from_corners(boxes)
    offset = centres[:, :2] / spec.stride - cells.corner
    return torch.cat([offset, (centres[:, 2:] / anchor_sizes(spec, boxes)[cells.anchor]).log()], dim=-1)


def _which(truths: Truths, *, ignored: bool) -> Tensor:
    if truths.ignore is None:
        return torch.full_like(truths.labels, not ignored, dtype=torch.bool)
    return truths.ignore.bool() if ignored else ~truths.ignore.bool()


def _chosen_anchors(sizes: Tensor, anchors: Anchors, iou_thresh: float) -> Tensor:
    """(N, 2) sizes -> (N, number of anchors) bool."""
    at_origin = F.pad(torch.tensor(anchors, dtype=sizes.dtype, device=sizes.device), (2, 0))
    fit = box_iou(F.pad(sizes, (2, 0))[:, None], at_origin, form="centre")
    return F.one_hot(fit.argmax(1), len(anchors)).bool() | (fit > iou_thresh)


def _cells(flat: Flat, centres: Tensor, chosen: Tensor, spec: HeadSpec, grid: tuple[int, int]) -> Cells:
    truth, anchor = chosen.nonzero(as_tuple=True)
    column, row = (centres[truth, :2] / spec.stride).floor().long().unbind(1)
    inside = (column >= 0) & (column < grid[1]) & (row >= 0) & (row < grid[0])
    return Cells(image=flat.image[truth], anchor=anchor, row=row, column=column, truth=truth).select(inside)
