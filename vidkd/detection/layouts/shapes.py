"""The generated data sets, motion_shapes and cued_shapes: truth.jsonl has the boxes of every shape in every frame of its videos."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import read_json, read_jsonl
from vidkd.data.manifest import Manifest
from vidkd.data.motion_shapes.shapes import KINDS
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts import json_parts as parts
from vidkd.detection.layouts.layout import Box, BoxOptions, BoxReading, bare_frame, finish, label_of, not_found, with_boxes
from vidkd.detection.metrics.matching import share_inside

EXPECTED = "truth.jsonl, manifest.jsonl and config.json as the generator leaves them"
CLASSES = tuple(sorted(KINDS))
HIDDEN = 0.75
"""A box of which a single box painted later covers this share is ignored: what is left to see does not tell its shape."""


def read(root: Path, options: BoxOptions) -> BoxReading:
    """Classes are the kinds of shape. Subsets and groups are those of the data set's manifest of clips; times are index / fps."""
    for name in ("truth.jsonl", "manifest.jsonl", "config.json"):
        if not (root / name).is_file():
            raise not_found("motion_shapes", root, EXPECTED, f"no {name}")
    size, fps = _size_and_fps(root / "config.json")
    sides = {clip.path: (clip.group, next(iter(clip.subsets.values()), "")) for clip in Manifest.read(root / "manifest.jsonl", root).clips}
    left_out: Counter[str] = Counter()
    frames: list[LabelledFrame] = []
    for number, row in enumerate(read_jsonl(root / "truth.jsonl"), start=1):
        where = f"{root / 'truth.jsonl'}:{number}"
        path = parts.text(row, "path", where)
        if path not in sides:
            raise DataError(f"{where}: not in the manifest: {path}")
        group, subset = sides[path]
        frames += _frames(path, row, where, size, fps, group, subset, left_out)
    return finish(root.name or "motion_shapes", root, CLASSES, frames, options, left_out, expected=EXPECTED)


def _size_and_fps(path: Path) -> tuple[int, float]:
    document = read_json(path)
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise DataError(f"{path}: no 'config'", expected=EXPECTED)
    fps = config.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps < math.inf:
        raise DataError(f"{path}: 'fps' must be a positive number, found {fps!r}")
    return parts.whole(config, "size", str(path), 2), float(fps)


def _frames(
    path: str, row: Mapping[str, Any], where: str, size: int, fps: float, group: str, subset: str, left_out: Counter[str]
) -> list[LabelledFrame]:
    labels, corners = _shapes(row, where)
    frames = []
    for t in range(corners.shape[1]):
        hidden = _hidden(corners[:, t])
        boxes = [
            Box(corners=tuple(box), label=label, ignore=covered, track_id=track)
            for track, (box, label, covered) in enumerate(zip(corners[:, t].tolist(), labels, hidden.tolist(), strict=True))
        ]
        bare = bare_frame(path, size, size, group, frame_index=t, time_s=t / fps, subset=subset)
        frames.append(with_boxes(bare, boxes, left_out, CLASSES, where))
    return frames


def _shapes(row: Mapping[str, Any], where: str) -> tuple[list[int], NDArray[np.float64]]:
    """Labels of the shapes in painting order, and their boxes (shapes, frames, 4)."""
    shapes = row.get("shapes")
    if not isinstance(shapes, list) or not shapes or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(f"{where}: 'shapes' must be a list of objects")
    labels = [label_of(parts.text(shape, "name", where), CLASSES, where) for shape in shapes]
    try:
        corners = np.asarray([shape["boxes"] for shape in shapes], np.float64)
    except (KeyError, TypeError, ValueError):
        corners = np.zeros(0)
    if corners.ndim != 3 or corners.shape[2] != 4:
        raise DataError(f"{where}: every shape needs 'boxes', one [x1, y1, x2, y2] for each frame of the video")
    return labels, corners


def _hidden(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes (N, 4), in painting order, a later one covers by HIDDEN of their area or more."""
    later = np.triu(np.ones((len(boxes), len(boxes)), bool), k=1)
    return np.asarray((later & (share_inside(boxes, boxes) >= HIDDEN)).any(axis=1))
