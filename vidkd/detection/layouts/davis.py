"""Boxes of the one salient object of DAVIS-2016 sequences: boxes.json next to videos/<sequence>.mp4.

boxes.json: {sequence: {"coco": name or null, "width", "height", "n": frames, "box_xyxy": [[x1, y1, x2, y2] or null of every frame]}}. The
name is of COCO; "horse+person" is one box around both, found under either name; null is an object that COCO does not know, a region to
ignore. Other objects of the scene have no box: every frame is incomplete, fit to measure recall.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from vidkd.base.errors import DataError
from vidkd.detection.annotations import ANY_CLASS, LabelledFrame
from vidkd.detection.layouts.common import Box, BoxOptions, BoxReading, bare_frame, finish, not_found, read_typed, with_boxes
from vidkd.video import open_video

EXPECTED = "boxes.json and videos/<sequence>.mp4"
Corners: TypeAlias = tuple[float, float, float, float]


class _Sequence(Struct):
    width: Annotated[int, Meta(ge=1)]
    height: Annotated[int, Meta(ge=1)]
    box_xyxy: list[Corners | None]
    coco: str | None = None

    @property
    def names(self) -> list[str]:
        return [name for name in (self.coco or "").split("+") if name]


def read(root: Path, options: BoxOptions) -> BoxReading:
    """Classes are the names that occur, sorted. The group is the sequence."""
    path = options.annotations[0] if options.annotations else root / "boxes.json"
    if not path.is_file():
        raise not_found("davis", root, EXPECTED, f"no {path.name}")
    sequences = read_typed(path, dict[str, _Sequence])
    classes = sorted({name for item in sequences.values() for name in item.names})
    left_out: Counter[str] = Counter()
    frames = [
        frame
        for name, item in sequences.items()
        for frame in _frames(root, f"{path}: {name}", name, item, classes, left_out, options.allow_missing)
    ]
    return finish("davis", root, classes, frames, options, left_out, expected=EXPECTED)


def _frames(
    root: Path, where: str, name: str, item: _Sequence, classes: Sequence[str], left_out: Counter[str], allow_missing: bool
) -> list[LabelledFrame]:
    labels = [classes.index(each) for each in item.names] or [ANY_CLASS]
    path = f"videos/{name}.mp4"
    times_s = _times_s(root / path, len(item.box_xyxy), where, allow_missing)
    frames = []
    for index, (time_s, corners) in enumerate(zip(times_s, item.box_xyxy, strict=True)):
        bare = bare_frame(path, item.width, item.height, name, frame_index=index, time_s=time_s, complete=False)
        # one box per name, all of the same object
        boxes = [Box(corners=corners, label=label, ignore=label == ANY_CLASS, track_id=1) for label in labels] if corners else []
        frames.append(with_boxes(bare, boxes, left_out, classes, f"{where}: box_xyxy[{index}]"))
    return frames


def _times_s(video: Path, boxes: int, where: str, allow_missing: bool) -> list[float] | list[None]:
    """Timestamps of the frames; None for each of a video that is not there and may be missing."""
    if not video.is_file():
        if allow_missing:
            return [None] * boxes
        raise DataError(f"{where}: its video is missing: {video}", hint="unpack it again, or leave it out with allow_missing")
    with open_video(video) as reader:
        times_s: list[float] = reader.timestamps_s.tolist()
    if len(times_s) != boxes:
        raise DataError(f"{where}: {boxes} boxes for {len(times_s)} frames", video=video)
    return times_s
