"""Boxes of the one salient object of DAVIS-2016 sequences: boxes.json next to videos/<sequence>.mp4.

boxes.json: {sequence: {"coco": name or null, "width", "height", "n": frames, "box_xyxy": [[x1, y1, x2, y2] or null of every frame]}}. The
name is of COCO; "horse+person" is one box around both, found under either name; null is an object that COCO does not know, a region to
ignore. Other objects of the scene have no box: every frame is incomplete, fit to measure recall.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from vidkd.base.errors import DataError
from vidkd.detection.annotations import ANY_CLASS
from vidkd.detection.layouts.common import Box, Corners, Reading, labelled_frame, not_found, read_typed
from vidkd.video import open_video


class _Sequence(Struct):
    width: int
    height: int
    box_xyxy: list[Corners | None]
    coco: str | None = None


def read(root: Path, files: Sequence[Path]) -> Reading:
    """Classes are the names that occur, sorted. The group is the sequence."""
    path = files[0] if files else root / "boxes.json"
    if not path.is_file():
        raise not_found(root, "boxes.json and videos/<sequence>.mp4", f"no {path.name}")
    sequences = read_typed(path, dict[str, _Sequence])
    names = {sequence: item.coco.split("+") if item.coco else [] for sequence, item in sequences.items()}
    classes = sorted({name for each in names.values() for name in each})
    frames = []
    for sequence, item in sequences.items():
        video, labels = f"videos/{sequence}.mp4", [classes.index(name) for name in names[sequence]] or [ANY_CLASS]
        times_s = _times_s(root / video, len(item.box_xyxy))
        for index, corners in enumerate(item.box_xyxy):
            # one box per name, all of the same object
            boxes = [Box(corners, label, ignore=label == ANY_CLASS, track_id=1) for label in labels] if corners else []
            where = f"{path}: {sequence}: box_xyxy[{index}]"
            more = {"frame_index": index, "time_s": times_s[index], "complete": False}
            frames.append(labelled_frame(where, video, (item.width, item.height), boxes, group=sequence, **more))
    return classes, frames


def _times_s(video: Path, boxes: int) -> Sequence[float | None]:
    """Timestamps of the frames; None for each of a video that is missing."""
    if not video.is_file():
        return [None] * boxes
    with open_video(video) as reader:
        times_s: list[float] = reader.timestamps_s.tolist()
    if len(times_s) != boxes:
        raise DataError(f"{boxes} boxes for {len(times_s)} frames: {video}")
    return times_s
