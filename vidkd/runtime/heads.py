"""What the outputs of a detector mean: decoding to boxes, scores and labels, a function for each style of head.

Every style gives a row or cell its best class alone. Layouts are those of the published exports: YOLOX (arXiv 2107.08430), YOLOv5 and
YOLOv8, darknet's [yolo] layer (arXiv 1804.02767; scale_x_y as in YOLOv4, arXiv 2004.10934).
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.runtime.metadata import HeadStyle, ModelMetadata

Array = NDArray[np.floating[Any]]
Decode = Callable[[Sequence[Array], ModelMetadata, float], "Candidates"]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Boxes before suppression: boxes (N, 4) x1 y1 x2 y2 in pixels of the network's input, scores (N,), labels (N,)."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def decode_yolox(outputs: Sequence[Array], metadata: ModelMetadata, least: float) -> Candidates:
    """YOLOX without its decoding: rows (N, 5 + C), one a cell, level by level in the order of the strides.

    A row holds x and y from the cell's corner and log w, log h, all in cells; then objectness and class scores in 0..1.
    outputs: of one frame, without the batch axis. least: smallest score that is kept. Raises ValueError if they do not fit the metadata.
    """
    rows = _rows(outputs, 5 + len(metadata.classes), metadata)
    corners, strides = _grid(metadata.input.size, metadata.head.strides)
    if len(rows) != len(corners):
        text = f"strides {list(metadata.head.strides)} and size {list(metadata.input.size)} make {len(corners)} cells"
        raise ValueError(f"{text}, the output has {len(rows)} rows")
    kept, scores, labels = _best_rows(rows, least)
    places, stride = rows[kept, :4].astype(np.float32), strides[kept, None]
    centres, sizes = (places[:, :2] + corners[kept]) * stride, _exp(places[:, 2:]) * stride
    return Candidates(boxes=_around(centres, sizes), scores=scores, labels=labels)


def decode_yolov5(outputs: Sequence[Array], metadata: ModelMetadata, least: float) -> Candidates:
    """Rows (N, 5 + C): x, y of the centre, width, height, objectness and class scores in 0..1. Arguments as in `decode_yolox`."""
    rows = _rows(outputs, 5 + len(metadata.classes), metadata)
    kept, scores, labels = _best_rows(rows, least)
    places = rows[kept, :4].astype(np.float32) * _unit(metadata)
    return Candidates(boxes=_around(places[:, :2], places[:, 2:]), scores=scores, labels=labels)


def decode_yolov8(outputs: Sequence[Array], metadata: ModelMetadata, least: float) -> Candidates:
    """Columns (4 + C, N): x, y of the centre, width, height, class scores in 0..1, no objectness. Arguments as in `decode_yolox`."""
    (table,) = _outputs(outputs, 1, metadata)
    if table.ndim != 2 or len(table) != 4 + len(metadata.classes):
        raise ValueError(f"{len(metadata.classes)} classes make an output (4 + {len(metadata.classes)}, N), not {table.shape}")
    best = table[4:].max(0)
    (kept,) = np.nonzero(best >= least)
    places = table[:4, kept].T.astype(np.float32) * _unit(metadata)
    labels = table[4:, kept].argmax(0).astype(np.int64)
    return Candidates(boxes=_around(places[:, :2], places[:, 2:]), scores=best[kept].astype(np.float32), labels=labels)


def decode_darknet(outputs: Sequence[Array], metadata: ModelMetadata, least: float) -> Candidates:
    """Raw heads (A * (5 + C), H, W), or (H, W, A * (5 + C)) where the input is NHWC; each output has its list of A anchors.

    An anchor of a cell holds logits of x and y within the cell, log w and log h in anchors, logits of objectness and of each class.
    Arguments as in `decode_yolox`.
    """
    anchors = metadata.head.anchors
    scale_xy = metadata.head.scale_xy or (1.0,) * len(anchors)
    levels = [
        _darknet_level(output, level, scale, metadata, least)
        for output, level, scale in zip(_outputs(outputs, len(anchors), metadata), anchors, scale_xy, strict=True)
    ]
    return Candidates(
        boxes=np.concatenate([level.boxes for level in levels]),
        scores=np.concatenate([level.scores for level in levels]),
        labels=np.concatenate([level.labels for level in levels]),
    )


def decode_boxes(outputs: Sequence[Array], metadata: ModelMetadata, least: float) -> Candidates:
    """Already decoded: boxes (N, 4) x1 y1 x2 y2, scores (N,) and labels (N,), or one output (N, 6) of both corners, score and label.

    Labels outside the classes are an error only where their score is kept. Arguments as in `decode_yolox`.
    """
    if len(outputs) == 1:
        (rows,) = outputs
        if rows.ndim != 2 or rows.shape[1] != 6:
            raise ValueError(f"one output of decoded boxes is (N, 6): {rows.shape}")
        boxes, scores, labels = rows[:, :4], rows[:, 4], rows[:, 5]
    else:
        boxes, scores, labels = _outputs(outputs, 3, metadata)
    if boxes.shape != (*scores.shape, 4) or scores.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"decoded boxes, scores and labels are (N, 4), (N,), (N,): {boxes.shape}, {scores.shape}, {labels.shape}")
    (kept,) = np.nonzero(scores >= least)
    names = labels[kept].round().astype(np.int64)
    if len(names) and not 0 <= names.min() <= names.max() < len(metadata.classes):
        raise ValueError(f"labels {names.min()} to {names.max()} do not fit {len(metadata.classes)} classes")
    return Candidates(boxes=boxes[kept].astype(np.float32) * _unit(metadata), scores=scores[kept].astype(np.float32), labels=names)


HEADS: dict[HeadStyle, Decode] = {
    "yolox": decode_yolox,
    "yolov5": decode_yolov5,
    "yolov8": decode_yolov8,
    "darknet": decode_darknet,
    "boxes": decode_boxes,
}


def _darknet_level(
    output: Array, anchors: Sequence[tuple[float, float]], scale: float, metadata: ModelMetadata, least: float
) -> Candidates:
    values = 5 + len(metadata.classes)
    output = np.moveaxis(output, -1, 0) if metadata.input.layout == "NHWC" else output
    if output.ndim != 3 or len(output) != len(anchors) * values:
        raise ValueError(
            f"{len(anchors)} anchors and {len(metadata.classes)} classes make {len(anchors) * values} channels: {output.shape}"
        )
    cells = output.reshape(len(anchors), values, *output.shape[1:])
    anchor, row, column = np.nonzero(_sigmoid(cells[:, 4]) >= least)
    rows = cells[anchor, :, row, column].astype(np.float32)
    rows[:, 4:] = _sigmoid(rows[:, 4:])
    kept, scores, labels = _best_rows(rows, least)
    stride = np.asarray(metadata.input.size, np.float32) / cells.shape[:1:-1]
    corners = np.stack([column, row], 1)[kept]
    centres = (_sigmoid(rows[kept, :2]) * scale - (scale - 1) / 2 + corners) * stride
    sizes = _exp(rows[kept, 2:4]) * np.asarray(anchors, np.float32)[anchor[kept]]
    return Candidates(boxes=_around(centres, sizes), scores=scores, labels=labels)


def _outputs(outputs: Sequence[Array], count: int, metadata: ModelMetadata) -> Sequence[Array]:
    if len(outputs) != count:
        raise ValueError(
            f"style '{metadata.head.style}' wants {count} output{'s' * (count > 1)} here, not {len(outputs)}; name them in head.outputs"
        )
    return outputs


def _rows(outputs: Sequence[Array], width: int, metadata: ModelMetadata) -> Array:
    (rows,) = _outputs(outputs, 1, metadata)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(f"{len(metadata.classes)} classes make an output (N, 5 + {len(metadata.classes)}), not {rows.shape}")
    return rows


def _best_rows(rows: Array, least: float) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Rows whose objectness times best class reaches `least`, those scores and classes."""
    # No class is above 1, so most rows fall by their objectness alone.
    (kept,) = np.nonzero(rows[:, 4] >= least)
    classes = rows[kept, 5:].astype(np.float32)
    labels = classes.argmax(1).astype(np.int64)
    scores = rows[kept, 4].astype(np.float32) * classes[np.arange(len(kept)), labels]
    reach = scores >= least
    return kept[reach], scores[reach], labels[reach]


@functools.lru_cache(maxsize=8)
def _grid(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row (N, 2) of every cell, and its stride (N,); row by row, level by level."""
    corners, sides = [], []
    for stride in strides:
        rows, columns = np.mgrid[: size[1] // stride, : size[0] // stride]
        corners.append(np.stack([columns.ravel(), rows.ravel()], 1))
        sides.append(np.full(rows.size, stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(sides).astype(np.float32)


def _unit(metadata: ModelMetadata) -> NDArray[np.float32]:
    """What turns box coordinates into pixels of the input."""
    width, height = metadata.input.size if metadata.head.boxes == "unit" else (1, 1)
    return np.asarray([width, height, width, height], np.float32)


def _around(centres: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.float32]:
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1).astype(np.float32)


def _exp(logs: NDArray[Any]) -> NDArray[np.float32]:
    # A size that overflows is infinite, and the box is dropped for it.
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(logs), np.float32)


def _sigmoid(logits: NDArray[Any]) -> NDArray[np.float32]:
    # By tanh, which cannot overflow.
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float32))), np.float32)
