"""The generated data sets, motion_shapes, cued_shapes and street_shapes: truth.jsonl has the boxes of every shape in every frame."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

EXPECTED = "truth.jsonl, config.json and, but for street_shapes, manifest.jsonl, as the generator leaves them"
CLASSES = tuple(sorted(KINDS))
HIDDEN = 0.75
"""A box of which one painted later, or the edge of the frame, hides this share is ignored: what is left does not tell its shape."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What config.json and manifest.jsonl say of the videos. sides: (group, subset) by path; empty where truth.jsonl has them."""

    size: int
    fps: float
    classes: tuple[str, ...]
    sides: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """A shape of a video: boxes (n, 4) x1 y1 x2 y2 of the frames from first_frame on; `track` is its place in painting order."""

    track: int
    label: int
    first_frame: int
    boxes: NDArray[np.float64]

    @property
    def end_frame(self) -> int:
        return self.first_frame + len(self.boxes)


def read(root: Path, options: BoxOptions) -> BoxReading:
    """Classes are the kinds of shape, in street_shapes those that were asked for. Times are index / fps.

    Subsets and groups are those of the data set's manifest of clips, in street_shapes those of truth.jsonl. Boxes are cut at the edges.
    """
    source = _source(root)
    left_out: Counter[str] = Counter()
    frames: list[LabelledFrame] = []
    for number, row in enumerate(read_jsonl(root / "truth.jsonl"), start=1):
        frames += _frames(row, f"{root / 'truth.jsonl'}:{number}", source, left_out)
    return finish(root.name or "motion_shapes", root, source.classes, frames, options, left_out, expected=EXPECTED)


def _source(root: Path) -> _Source:
    for name in ("truth.jsonl", "config.json"):
        if not (root / name).is_file():
            raise not_found("motion_shapes", root, EXPECTED, f"no {name}")
    document = read_json(root / "config.json")
    document = document if isinstance(document, dict) else {}
    size, fps = _size_and_fps(root / "config.json", document)
    if document.get("data_set") == "street_shapes":
        return _Source(size=size, fps=fps, classes=tuple(map(str, document["config"].get("kinds", CLASSES))), sides={})
    if not (root / "manifest.jsonl").is_file():
        raise not_found("motion_shapes", root, EXPECTED, "no manifest.jsonl")
    clips = Manifest.read(root / "manifest.jsonl", root).clips
    return _Source(
        size=size, fps=fps, classes=CLASSES, sides={clip.path: (clip.group, next(iter(clip.subsets.values()), "")) for clip in clips}
    )


def _size_and_fps(path: Path, document: Mapping[str, Any]) -> tuple[int, float]:
    config = document.get("config")
    if not isinstance(config, dict):
        raise DataError(f"{path}: no 'config'", expected=EXPECTED)
    fps = config.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps < math.inf:
        raise DataError(f"{path}: 'fps' must be a positive number, found {fps!r}")
    return parts.whole(config, "size", str(path), 2), float(fps)


def _frames(row: Mapping[str, Any], where: str, source: _Source, left_out: Counter[str]) -> list[LabelledFrame]:
    path = parts.text(row, "path", where)
    group, subset = _side(path, row, where, source)
    shapes = _shapes(row, where, source.classes)
    size = source.size
    frames = []
    for t in range(_frame_count(row, shapes, where)):
        bare = bare_frame(path, size, size, group, frame_index=t, time_s=t / source.fps, subset=subset)
        frames.append(with_boxes(bare, _boxes(shapes, t, size), left_out, source.classes, where))
    return frames


def _side(path: str, row: Mapping[str, Any], where: str, source: _Source) -> tuple[str, str]:
    if not source.sides:
        return parts.text(row, "group", where), parts.text(row, "subset", where)
    if path not in source.sides:
        raise DataError(f"{where}: not in the manifest: {path}")
    return source.sides[path]


def _frame_count(row: Mapping[str, Any], shapes: Sequence[_Shape], where: str) -> int:
    """Frames of the video: as the row says, or as many as every one of its shapes has boxes."""
    last = max((shape.end_frame for shape in shapes), default=0)
    if "frames" not in row:
        if not shapes:
            raise DataError(f"{where}: 'shapes' must be a list of objects, at least one where 'frames' does not say how long the video is")
        if any(shape.first_frame or shape.end_frame != last for shape in shapes):
            raise DataError(f"{where}: every shape needs 'boxes', one [x1, y1, x2, y2] for each frame of the video")
        return last
    count = parts.whole(row, "frames", where, 1)
    if last > count:
        raise DataError(f"{where}: boxes up to frame {last - 1} in a video of {count} frames")
    return count


def _shapes(row: Mapping[str, Any], where: str, classes: Sequence[str]) -> list[_Shape]:
    """The shapes in painting order."""
    shapes = row.get("shapes")
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(f"{where}: 'shapes' must be a list of objects")
    return [
        _Shape(
            track=track,
            label=label_of(parts.text(shape, "name", where), classes, where),
            first_frame=parts.whole(shape, "first_frame", where, 0) if "first_frame" in shape else 0,
            boxes=_corners(shape, where),
        )
        for track, shape in enumerate(shapes)
    ]


def _corners(shape: Mapping[str, Any], where: str) -> NDArray[np.float64]:
    try:
        corners = np.asarray(shape["boxes"], np.float64)
    except (KeyError, TypeError, ValueError):
        corners = np.zeros(0)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise DataError(f"{where}: every shape needs 'boxes', one [x1, y1, x2, y2] for each frame in which it is seen")
    return corners


def _boxes(shapes: Sequence[_Shape], t: int, size: int) -> list[Box]:
    """The boxes of a frame, cut at its edges."""
    seen = [shape for shape in shapes if shape.first_frame <= t < shape.end_frame]
    whole = np.array([shape.boxes[t - shape.first_frame] for shape in seen]).reshape(-1, 4)
    cut = whole.clip(0, size)
    hidden = _hidden(cut) | (_area(cut) <= (1 - HIDDEN) * _area(whole))
    return [
        Box(corners=tuple(box), label=shape.label, ignore=unclear, track_id=shape.track)
        for shape, box, unclear in zip(seen, cut.tolist(), hidden.tolist(), strict=True)
    ]


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _hidden(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes (N, 4), in painting order, a later one covers by HIDDEN of their area or more."""
    later = np.triu(np.ones((len(boxes), len(boxes)), bool), k=1)
    return np.asarray((later & (share_inside(boxes, boxes) >= HIDDEN)).any(axis=1))
