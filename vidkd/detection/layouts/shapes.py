"""The generated data sets, motion_shapes, cued_shapes and street_shapes: truth.jsonl has the boxes of every shape in every frame."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from vidkd.data.manifest import Manifest
from vidkd.data.synthetic.shapes import KINDS
from vidkd.detection.layouts.common import Box, Corners, Reading, labelled_frame, not_found, read_typed
from vidkd.detection.metrics import share_inside

HIDDEN = 0.75
"""A box of which one painted later, or the edge of the frame, hides this share is ignored: its shape can no longer be recognised."""


class _Config(Struct):
    size: int
    fps: float
    kinds: tuple[str, ...] = tuple(sorted(KINDS))


class _Document(Struct):
    config: _Config
    data_set: str = "motion_shapes"


class _Shape(Struct):
    """boxes: x1 y1 x2 y2 of the frames from first_frame on."""

    name: str
    boxes: list[Corners]
    first_frame: int = 0


class _Video(Struct):
    """A line of truth.jsonl; shapes in painting order. frames, group and subset: of street_shapes only."""

    path: str
    shapes: list[_Shape]
    frames: int | None = None
    group: str = ""
    subset: str = ""


def read(root: Path, _: Sequence[Path]) -> Reading:
    """Classes are the kinds of shape, in street_shapes those that were asked for. Times are index / fps.

    Subsets and groups are those of the data set's manifest of clips, in street_shapes those of truth.jsonl. Boxes are cut at the edges.
    """
    truth = root / "truth.jsonl"
    for name in ("truth.jsonl", "config.json"):
        if not (root / name).is_file():
            raise not_found(root, "truth.jsonl and config.json, as vidkd make_data leaves them", f"no {name}")
    document = read_typed(root / "config.json", _Document)
    config, street = document.config, document.data_set == "street_shapes"
    clips = () if street else Manifest.read(root / "manifest.jsonl", root).clips
    sides = {clip.path: (clip.group, next(iter(clip.subsets.values()), "")) for clip in clips}
    frames = []
    for number, video in enumerate(read_typed(truth, list[_Video]), start=1):
        where = f"{truth}:{number}"
        group, subset = sides.get(video.path, (video.group, video.subset))
        labels = [config.kinds.index(shape.name) for shape in video.shapes]
        count = max((shape.first_frame + len(shape.boxes) for shape in video.shapes), default=0) if video.frames is None else video.frames
        for t in range(count):
            more = {"group": group, "subset": subset, "frame_index": t, "time_s": t / config.fps}
            boxes = _boxes(video.shapes, labels, t, config.size)
            frames.append(labelled_frame(where, video.path, (config.size, config.size), boxes, **more))
    return config.kinds, frames


def _boxes(shapes: Sequence[_Shape], labels: Sequence[int], t: int, size: int) -> list[Box]:
    """The boxes of a frame, cut at its edges; the track is the shape's place in painting order."""
    seen = [track for track, shape in enumerate(shapes) if shape.first_frame <= t < shape.first_frame + len(shape.boxes)]
    whole = np.array([shapes[track].boxes[t - shapes[track].first_frame] for track in seen]).reshape(-1, 4)
    cut = whole.clip(0, size)
    later = np.triu(np.ones((len(cut), len(cut)), bool), k=1)
    hidden = (later & (share_inside(cut, cut) >= HIDDEN)).any(axis=1) | (_area(cut) <= (1 - HIDDEN) * _area(whole))
    return [Box(tuple(box), labels[track], unclear, track) for track, box, unclear in zip(seen, cut.tolist(), hidden.tolist(), strict=True)]


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
