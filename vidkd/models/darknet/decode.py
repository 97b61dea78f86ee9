"""Raw yolo heads to boxes and scores, on the device of the heads.

Equations of Redmon & Farhadi 2018 (YOLOv3, section 2.1); scale_x_y as in Bochkovskiy et al. 2020 (YOLOv4, "eliminate grid sensitivity").
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vidkd.losses.yolo_heads import HeadSpec, anchor_sizes, boxes_at, boxes_of_cells, split_head, split_heads


class DecodedHead(NamedTuple):
    """boxes (B, A, h, w, 4), x1 y1 x2 y2 in input pixels; objectness (B, A, h, w) and class_scores (B, A, h, w, C), each in [0, 1]."""

    boxes: Tensor
    objectness: Tensor
    class_scores: Tensor


def decode_head(raw: Tensor, head: HeadSpec) -> DecodedHead:
    """One raw head (B, A*(5+C), h, w) of any size, decoded in at least float32. Differentiable; boxes are not clipped.

    Centre: (cell + s * sigmoid(t) - (s - 1) / 2) * stride with s = scale_x_y. Size: anchor * exp(t), t at most 10.
    Raises ValueError if the channels are not those of the head, or the batch is empty.
    """
    cells = split_head(raw, head)
    return DecodedHead(boxes_of_cells(cells, head), cells[..., 4].sigmoid(), cells[..., 5:].sigmoid())


def decode(raw_heads: Sequence[Tensor], heads: Sequence[HeadSpec]) -> tuple[Tensor, Tensor]:
    """All raw heads of one pass: boxes (B, N, 4), x1 y1 x2 y2 in input pixels, and scores (B, N, C), objectness times class.

    N runs over heads, anchors, rows, columns. Raises ValueError if the raw heads are not as many as `heads`, or as `decode_head` does.
    """
    if len(raw_heads) != len(heads):
        raise ValueError(f"{len(raw_heads)} raw heads where the network has {len(heads)}")
    decoded = [decode_head(raw, head) for raw, head in zip(raw_heads, heads, strict=True)]
    boxes = torch.cat([each.boxes.flatten(1, 3) for each in decoded], 1)
    scores = torch.cat([(each.objectness.unsqueeze(-1) * each.class_scores).flatten(1, 3) for each in decoded], 1)
    return boxes, scores


def decode_above(raw_heads: Sequence[Tensor], heads: Sequence[HeadSpec], least: float) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each image boxes (N, 4), scores (N,) and labels (N,) of the cells whose best class scores at least `least`.

    The same numbers, in the same order, as those of `decode`. That squashes the classes of all cells, this only of those whose
    objectness reaches `least`, for no score passes its objectness. Raises ValueError as `decode` does.
    """
    cells = split_heads(raw_heads, heads)
    return [_best_cells([each[image] for each in cells], heads, least) for image in range(len(cells[0]))]


def _best_cells(cells: Sequence[Tensor], heads: Sequence[HeadSpec], least: float) -> tuple[Tensor, Tensor, Tensor]:
    """`decode_above` of one image, its cells (A, h, w, 5 + C) a head."""
    found = []
    for each, head in zip(cells, heads, strict=True):
        objectness = each[..., 4].sigmoid()
        anchor, row, column = (objectness >= least).nonzero(as_tuple=True)
        rows = each[anchor, row, column]
        scores, labels = (objectness[anchor, row, column, None] * rows[:, 5:].sigmoid()).max(-1)
        boxes = boxes_at(rows, torch.stack([column, row], -1), anchor_sizes(head, rows)[anchor], head)
        found.append((boxes, scores, labels))
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    kept = scores >= least
    return boxes[kept], scores[kept], labels[kept]
