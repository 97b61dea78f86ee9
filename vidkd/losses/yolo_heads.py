"""The raw output of a yolo head: its anchors, and the boxes that it encodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidkd.losses.boxes import corners_from_centre
from vidkd.losses.reduction import widen

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
