"""Raw yolo heads to boxes and scores, on the device of the heads.

Equations of Redmon & Farhadi 2018 (YOLOv3, section 2.1); scale_x_y as in Bochkovskiy et al. 2020 (YOLOv4, "eliminate grid sensitivity").
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vidkd.models.darknet.blocks import VALUES_BESIDE_CLASSES
from vidkd.models.darknet.graph import Head


class DecodedHead(NamedTuple):
    """boxes (B, A, h, w, 4), x1 y1 x2 y2 in input pixels; objectness (B, A, h, w) and class_scores (B, A, h, w, C), each in [0, 1]."""

    boxes: Tensor
    objectness: Tensor
    class_scores: Tensor


def decode_head(raw: Tensor, head: Head) -> DecodedHead:
    """One raw head (B, A*(5+C), h, w) of any size, decoded in float32 (float64 if it is). Differentiable; boxes are not clipped.

    Centre: (cell + s * sigmoid(t) - (s - 1) / 2) * stride with s = scale_x_y. Size: anchor * exp(t).
    Raises ValueError if the channels are not those of the head.
    """
    if raw.ndim != 4 or raw.shape[1] != head.channels:
        raise ValueError(f"a raw head must be (B, {head.channels}, h, w): {tuple(raw.shape)}")
    if raw.dtype != torch.float64:
        raw = raw.float()
    batch, _, height, width = raw.shape
    values = raw.view(batch, len(head.anchors), VALUES_BESIDE_CLASSES + head.classes, height, width).permute(0, 1, 3, 4, 2)
    centres = (head.scale_x_y * values[..., :2].sigmoid() - (head.scale_x_y - 1) / 2 + _cells(raw)) * head.stride
    half = raw.new_tensor(head.anchors).view(1, -1, 1, 1, 2) * values[..., 2:4].exp() / 2
    return DecodedHead(torch.cat([centres - half, centres + half], -1), values[..., 4].sigmoid(), values[..., 5:].sigmoid())


def decode(raw_heads: Sequence[Tensor], heads: Sequence[Head]) -> tuple[Tensor, Tensor]:
    """All raw heads of one pass: boxes (B, N, 4), x1 y1 x2 y2 in input pixels, and scores (B, N, C), objectness times class.

    N runs over heads, anchors, rows, columns. Raises ValueError if the heads are not as many as given, or as `decode_head` does.
    """
    if len(raw_heads) != len(heads):
        raise ValueError(f"{len(raw_heads)} raw heads for {len(heads)} heads")
    decoded = [decode_head(raw, head) for raw, head in zip(raw_heads, heads, strict=True)]
    boxes = torch.cat([each.boxes.flatten(1, 3) for each in decoded], 1)
    scores = torch.cat([(each.objectness.unsqueeze(-1) * each.class_scores).flatten(1, 3) for each in decoded], 1)
    return boxes, scores


def _cells(raw: Tensor) -> Tensor:
    """(h, w, 2): column and row of each cell."""
    rows, columns = (torch.arange(side, device=raw.device, dtype=raw.dtype) for side in raw.shape[2:])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
