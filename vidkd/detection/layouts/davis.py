"""Boxes of the one salient object of DAVIS-2016 sequences: boxes.json beside videos/<sequence>.mp4.

boxes.json: {sequence: {"coco": name or null, "width", "height", "n": frames, "box_xyxy": [[x1, y1, x2, y2] or null of every frame]}}. The
name is of COCO; "horse+person" is one box around both, found under either name; null is an object that COCO does not know, a region to
ignore. Other objects of the scene have no box: every frame is incomplete, fit to measure recall.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidkd.base.errors import DataError
from vidkd.detection.annotations import ANY_CLASS, LabelledFrame
from vidkd.detection.layouts import json_parts as parts
from vidkd.detection.layouts.layout import Box, BoxOptions, BoxReading, bare_frame, finish, label_of, not_found, with_boxes
from vidkd.video import open_video

EXPECTED = "boxes.json and videos/<sequence>.mp4"


def read(root: Path, options: BoxOptions) -> BoxReading:
    """Classes are the names that occur, sorted. The group is the sequence."""
    path = options.annotations[0] if options.annotations else root / "boxes.json"
    if not path.is_file():
        raise not_found("davis", root, EXPECTED, f"no {path.name}")
    document = parts.read_object(path)
    names = {name for item in document.values() if isinstance(item, dict) for name in str(item.get("coco") or "").split("+") if name}
    classes = sorted(names)
    left_out: Counter[str] = Counter()
    frames = [
        frame
        for sequence, item in document.items()
        for frame in _frames(root, f"{path}: {sequence}", sequence, item, classes, left_out, options.allow_missing)
    ]
    return finish("davis", root, classes, frames, options, left_out, expected=EXPECTED)


def _frames(
    root: Path, where: str, sequence: str, item: Any, classes: Sequence[str], left_out: Counter[str], allow_missing: bool
) -> list[LabelledFrame]:
    if not isinstance(item, dict) or not isinstance(item.get("box_xyxy"), list):
        raise DataError(f"{where}: no list 'box_xyxy'")
    width, height = parts.whole(item, "width", where, 1), parts.whole(item, "height", where, 1)
    names = parts.text(item, "coco", where).split("+") if item.get("coco") is not None else []
    labels = [label_of(name, classes, where) for name in names] or [ANY_CLASS]
    path = f"videos/{sequence}.mp4"
    times_s = _times_s(root / path, len(item["box_xyxy"]), where, allow_missing)
    frames = []
    for index, time_s in enumerate(times_s):
        bare = bare_frame(path, width, height, sequence, frame_index=index, time_s=time_s, complete=False)
        frames.append(with_boxes(bare, _boxes(item["box_xyxy"][index], labels, f"{where}: box_xyxy[{index}]"), left_out, classes, where))
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


def _boxes(corners: Any, labels: Sequence[int], where: str) -> list[Box]:
    """One box a name, all of the same object."""
    if corners is None:
        return []
    x1, y1, x2, y2 = parts.numbers({"box": corners}, "box", where, 4)
    return [Box(corners=(x1, y1, x2, y2), label=label, ignore=label == ANY_CLASS, track_id=1) for label in labels]
