"""COCO JSON of videos: COCO's keys and `videos`; each image belongs to a video and has its number in it, each annotation its track.

Keys as in the CocoVID form that MMTracking writes: images have video_id and frame_id (from 0), annotations instance_id, for which
track_id is read too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vidkd.base.errors import DataError
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts import json_parts as parts
from vidkd.detection.layouts.coco import boxes_by_image, image_path, image_rows, image_size, read_documents
from vidkd.detection.layouts.layout import BoxOptions, BoxReading, bare_frame, subset_in, with_boxes
from vidkd.video.files import is_video_file
from vidkd.video.image_sequence import list_images

EXPECTED = "annotations/*.json with videos, images, annotations and categories, and the frames as images or the videos themselves"


def read(root: Path, options: BoxOptions) -> BoxReading:
    """The frames of every file, in order of video and frame. A frame's path is its video, or the folder of its images."""
    return read_documents("coco_video", root, options, _frames, expected=EXPECTED)


def _frames(root: Path, path: Path, document: dict[str, Any], classes: Sequence[str], left_out: Counter[str]) -> list[LabelledFrame]:
    videos = {parts.whole(row, "id", where): row for where, row in parts.rows(document, "videos", path)}
    images = image_rows(document, path)
    boxes = boxes_by_image(document, path, set(images), _track_key(document))
    frames = []
    for number, (where, row) in images.items():
        video = parts.whole(row, "video_id", where)
        if video not in videos:
            raise DataError(f"{where}: video {video} is not among the videos")
        frames.append(with_boxes(_bare(root, path, row, videos[video], where), boxes[number], left_out, classes, where))
    return sorted(frames, key=lambda frame: (frame.group, frame.frame_index))


def _track_key(document: Mapping[str, Any]) -> str:
    listed = document.get("annotations") or [{}]
    return "track_id" if isinstance(listed, list) and isinstance(listed[0], dict) and "track_id" in listed[0] else "instance_id"


def _bare(root: Path, path: Path, row: Mapping[str, Any], video: Mapping[str, Any], where: str) -> LabelledFrame:
    index = parts.whole(row, "frame_id", where, 0)
    name = parts.text(video, "name", f"{path}: video {row['video_id']}")
    file = _video_path(root, path, row, video, index, where)
    return bare_frame(file, *image_size(row, where), group=name, frame_index=index, subset=subset_in(path.stem))


def _video_path(root: Path, path: Path, row: Mapping[str, Any], video: Mapping[str, Any], index: int, where: str) -> str:
    """The video where the file names one, else the folder of the image, in which it must stand at the place `index`."""
    own = video.get("file_name") or video.get("name")
    if isinstance(own, str) and is_video_file(Path(own)):
        return image_path(root, path, own)
    image = PurePosixPath(image_path(root, path, parts.text(row, "file_name", where)))
    if not (root / image).is_file():
        return image.as_posix()  # under its own name it is counted among the files that are missing
    listed = list_images(str(root / image.parent))
    if index >= len(listed) or listed[index].name != image.name:
        there = listed[index].name if index < len(listed) else f"{len(listed)} images"
        raise DataError(f"{where}: frame_id {index} is not the place of {image.name}", there=there, hint="count from 0")
    return image.parent.as_posix()
