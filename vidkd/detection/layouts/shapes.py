"""The generated data sets, motion_shapes, cued_shapes and street_shapes: truth.jsonl has the boxes of every shape in every frame."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import read_jsonl
from vidkd.data.manifest import Manifest
from vidkd.data.synthetic.shapes import KINDS
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts.common import (
    Box,
    BoxOptions,
    BoxReading,
    bare_frame,
    finish,
    label_of,
    not_found,
    read_typed,
    typed,
    with_boxes,
)
from vidkd.detection.metrics.matching import share_inside

EXPECTED = "truth.jsonl, config.json and, but for street_shapes, manifest.jsonl, as the generator leaves them"
CLASSES = tuple(sorted(KINDS))
HIDDEN = 0.75
"""A box of which one painted later, or the edge of the frame, hides this share is ignored: its shape can no longer be recognised."""


class _Config(Struct):
    size: Annotated[int, Meta(ge=2)]
    fps: Annotated[float, Meta(gt=0)]
    kinds: tuple[str, ...] = CLASSES


class _Document(Struct):
    config: _Config
    data_set: str = "motion_shapes"


class _Shape(Struct):
    """boxes: x1 y1 x2 y2 of the frames from first_frame on."""

    name: str
    boxes: list[tuple[float, float, float, float]]
    first_frame: Annotated[int, Meta(ge=0)] = 0

    @property
    def end_frame(self) -> int:
        return self.first_frame + len(self.boxes)


class _Video(Struct):
    """A line of truth.jsonl; shapes in painting order. frames, group and subset: of street_shapes only."""

    path: str
    shapes: list[_Shape]
    frames: int | None = None
    group: str = ""
    subset: str = ""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What config.json and manifest.jsonl say of the videos. sides: (group, subset) by path; None where truth.jsonl has them."""

    config: _Config
    classes: tuple[str, ...]
    sides: Mapping[str, tuple[str, str]] | None


def read(root: Path, options: BoxOptions) -> BoxReading:
    """Classes are the kinds of shape, in street_shapes those that were asked for. Times are index / fps.

    Subsets and groups are those of the data set's manifest of clips, in street_shapes those of truth.jsonl. Boxes are cut at the edges.
    """
    source = _source(root)
    left_out: Counter[str] = Counter()
    frames: list[LabelledFrame] = []
    for number, row in enumerate(read_jsonl(root / "truth.jsonl"), start=1):
        where = f"{root / 'truth.jsonl'}:{number}"
        frames += _frames(typed(row, _Video, where), where, source, left_out)
    return finish(root.name or "motion_shapes", root, source.classes, frames, options, left_out, expected=EXPECTED)


def _source(root: Path) -> _Source:
    for name in ("truth.jsonl", "config.json"):
        if not (root / name).is_file():
            raise not_found("motion_shapes", root, EXPECTED, f"no {name}")
    document = read_typed(root / "config.json", _Document)
    if document.data_set == "street_shapes":
        return _Source(config=document.config, classes=document.config.kinds, sides=None)
    if not (root / "manifest.jsonl").is_file():
        raise not_found("motion_shapes", root, EXPECTED, "no manifest.jsonl")
    clips = Manifest.read(root / "manifest.jsonl", root).clips
    sides = {clip.path: (clip.group, next(iter(clip.subsets.values()), "")) for clip in clips}
    return _Source(config=document.config, classes=CLASSES, sides=sides)


def _frames(video: _Video, where: str, source: _Source, left_out: Counter[str]) -> list[LabelledFrame]:
    sides = {video.path: (video.group, video.subset)} if source.sides is None else source.sides
    if video.path not in sides:
        raise DataError(f"{where}: not in the manifest: {video.path}")
    group, subset = sides[video.path]
    labels = [label_of(shape.name, source.classes, where) for shape in video.shapes]
    size, frames = source.config.size, []
    last = max((shape.end_frame for shape in video.shapes), default=0)
    for t in range(last if video.frames is None else video.frames):
        bare = bare_frame(video.path, size, size, group, frame_index=t, time_s=t / source.config.fps, subset=subset)
        frames.append(with_boxes(bare, _boxes(video.shapes, labels, t, size), left_out, source.classes, where))
    return frames


def _boxes(shapes: Sequence[_Shape], labels: Sequence[int], t: int, size: int) -> list[Box]:
    """The boxes of a frame, cut at its edges; the track is the shape's place in painting order."""
    seen = [track for track, shape in enumerate(shapes) if shape.first_frame <= t < shape.end_frame]
    whole = np.array([shapes[track].boxes[t - shapes[track].first_frame] for track in seen]).reshape(-1, 4)
    cut = whole.clip(0, size)
    hidden = _hidden(cut) | (_area(cut) <= (1 - HIDDEN) * _area(whole))
    return [
        Box(corners=tuple(box), label=labels[track], ignore=unclear, track_id=track)
        for track, box, unclear in zip(seen, cut.tolist(), hidden.tolist(), strict=True)
    ]


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _hidden(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes (N, 4), in painting order, a later one covers by HIDDEN of their area or more."""
    later = np.triu(np.ones((len(boxes), len(boxes)), bool), k=1)
    return np.asarray((later & (share_inside(boxes, boxes) >= HIDDEN)).any(axis=1))
