"""COCO JSON of images and of videos: categories, images, annotations with bbox [x, y, width, height] in pixels; `iscrowd` is ignored.

Format: https://cocodataset.org/#format-data. Every image that a file lists is annotated; one without an annotation is empty. Of videos the
keys are those of the CocoVID form that MMTracking writes: `videos`, images with video_id and frame_id (from 0), annotations with
instance_id or track_id.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from vidkd.base.errors import DataError
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts.common import Box, BoxOptions, BoxReading, bare_frame, finish, not_found, read_typed, subset_in, with_boxes
from vidkd.video.files import is_video_file
from vidkd.video.image_sequence import list_images

EXPECTED = "annotations/instances_<subset>.json (or *.json there, or <subset>/_annotations.coco.json), images in <subset>/ or images/"
OF_VIDEOS = "annotations/*.json with videos, images, annotations and categories, and the frames as images or the videos themselves"

_Name: TypeAlias = Annotated[str, Meta(min_length=1)]
_Count: TypeAlias = Annotated[int, Meta(ge=1)]


class _Category(Struct):
    id: int
    name: _Name


class _Image(Struct):
    id: int
    file_name: _Name
    width: _Count
    height: _Count
    video_id: int | str | None = None
    frame_id: Annotated[int, Meta(ge=0)] | None = None


class _Annotation(Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int | bool = 0
    instance_id: int | None = None
    track_id: int | None = None


class _Video(Struct):
    id: int
    name: _Name
    file_name: str | None = None


class _Document(Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]
    videos: list[_Video] = []


FramesOf: TypeAlias = Callable[[Path, Path, _Document, Sequence[str], Counter[str]], list[LabelledFrame]]


def read(root: Path, options: BoxOptions) -> BoxReading:
    """The frames of every annotation file; the subset is the word train, val or test in the file's name, or in its folder's."""
    return _read("coco", root, options, _of_images, expected=EXPECTED)


def read_videos(root: Path, options: BoxOptions) -> BoxReading:
    """The frames of every file, in order of video and frame. A frame's path is its video, or the folder of its images."""
    return _read("coco_video", root, options, _of_videos, expected=OF_VIDEOS)


def _read(name: str, root: Path, options: BoxOptions, frames_of: FramesOf, *, expected: str) -> BoxReading:
    """The frames that `frames_of` (root, path, document, classes, left out) makes of every annotation file, in the order of the files."""
    documents = {path: read_typed(path, _Document) for path in _annotation_files(name, root, options)}
    classes = _shared_classes(documents)
    left_out: Counter[str] = Counter()
    frames = [frame for path, document in documents.items() for frame in frames_of(root, path, document, classes, left_out)]
    return finish(root.name or name, root, classes, frames, options, left_out, expected=expected)


def _annotation_files(name: str, root: Path, options: BoxOptions) -> list[Path]:
    """The JSON files to read: those named, else those in annotations/, in the root, or one folder down. DataError for none."""
    if options.annotations:
        return list(options.annotations)
    for pattern in ("annotations/instances_*.json", "annotations/*.json", "*.json", "*/_annotations.coco.json"):
        if found := sorted(root.glob(pattern)):
            return found
    raise not_found(name, root, EXPECTED, "no annotation file")


def _shared_classes(documents: Mapping[Path, _Document]) -> list[str]:
    """Class names in the order of their category ids, which all files must share. DataError where they differ."""
    of_file = {path: _categories(document, path) for path, document in documents.items()}
    first, classes = next(iter(of_file.items()))
    for path, own in of_file.items():
        if own != classes:
            raise DataError(f"{path}: other categories than in {first}", hint="read the files one by one")
    return list(classes.values())


def _categories(document: _Document, path: Path) -> dict[int, str]:
    """Category id -> name, by rising id. DataError for an id or a name given twice."""
    names: dict[int, str] = {}
    for number, row in enumerate(document.categories):
        if row.id in names or row.name in names.values():
            raise DataError(f"{path}: categories[{number}]: category {row.id} '{row.name}' is given twice")
        names[row.id] = row.name
    return dict(sorted(names.items()))


def _of_images(root: Path, path: Path, document: _Document, classes: Sequence[str], left_out: Counter[str]) -> list[LabelledFrame]:
    subset = subset_in(path.stem) or subset_in(path.parent.name)
    boxes = _boxes_by_image(document, path)
    frames = []
    for number, row in enumerate(document.images):
        group = "" if row.video_id is None else f"video {row.video_id}"
        bare = bare_frame(_image_path(root, path, row.file_name), row.width, row.height, group=group, subset=subset)
        frames.append(with_boxes(bare, boxes[row.id], left_out, classes, f"{path}: images[{number}]"))
    return frames


def _of_videos(root: Path, path: Path, document: _Document, classes: Sequence[str], left_out: Counter[str]) -> list[LabelledFrame]:
    videos = {video.id: video for video in document.videos}
    boxes = _boxes_by_image(document, path, tracks=True)
    frames = []
    for number, row in enumerate(document.images):
        where = f"{path}: images[{number}]"
        if row.video_id not in videos:
            raise DataError(f"{where}: video {row.video_id} is not among the videos")
        if row.frame_id is None:
            raise DataError(f"{where}: 'frame_id' is missing")
        video = videos[int(row.video_id)]
        file = _video_path(root, path, row, video, row.frame_id, where)
        bare = bare_frame(file, row.width, row.height, group=video.name, frame_index=row.frame_id, subset=subset_in(path.stem))
        frames.append(with_boxes(bare, boxes[row.id], left_out, classes, where))
    return sorted(frames, key=lambda frame: (frame.group, frame.frame_index))


def _boxes_by_image(document: _Document, path: Path, *, tracks: bool = False) -> dict[int, list[Box]]:
    """The boxes of every image id. DataError for an image id given twice, and for an annotation of no image, category or track."""
    labels = {number: label for label, number in enumerate(_categories(document, path))}
    boxes: dict[int, list[Box]] = {}
    for number, image in enumerate(document.images):
        if image.id in boxes:
            raise DataError(f"{path}: images[{number}]: image id {image.id} is given twice")
        boxes[image.id] = []
    for number, row in enumerate(document.annotations):
        where = f"{path}: annotations[{number}]"
        if row.image_id not in boxes:
            raise DataError(f"{where}: image {row.image_id} is not among the images")
        if row.category_id not in labels:
            raise DataError(f"{where}: category {row.category_id} is not among the categories", known=", ".join(map(str, labels)))
        track = row.instance_id if row.track_id is None else row.track_id
        if tracks and track is None:
            raise DataError(f"{where}: 'instance_id' is missing")
        x, y, width, height = row.bbox
        corners = (x, y, x + width, y + height)
        boxes[row.image_id].append(Box(corners=corners, label=labels[row.category_id], ignore=bool(row.iscrowd), track_id=track))
    return boxes


def _image_path(root: Path, annotations: Path, name: str) -> str:
    """Path from the root of an image that a file of annotations names; where none is there, the first place that was looked in."""
    stem = annotations.stem.rsplit("_", 1)[-1]
    here = annotations.parent.relative_to(root).as_posix() if root in annotations.parents else "."
    places = [str(PurePosixPath(folder, name)) for folder in (".", here, stem, "images", f"images/{stem}", subset_in(stem) or ".")]
    return next((place for place in places if (root / place).is_file()), places[0])


def _video_path(root: Path, path: Path, row: _Image, video: _Video, index: int, where: str) -> str:
    """The video where the file names one, else the folder of the image, in which it must be at the place `index`."""
    own = video.file_name or video.name
    if is_video_file(Path(own)):
        return _image_path(root, path, own)
    image = PurePosixPath(_image_path(root, path, row.file_name))
    if not (root / image).is_file():
        return image.as_posix()  # under its own name it is counted among the files that are missing
    listed = list_images(str(root / image.parent))
    if index >= len(listed) or listed[index].name != image.name:
        there = listed[index].name if index < len(listed) else f"{len(listed)} images"
        raise DataError(f"{where}: frame_id {index} is not the place of {image.name}", there=there, hint="count from 0")
    return image.parent.as_posix()
