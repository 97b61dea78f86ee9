"""COCO JSON of images and of videos: categories, images, annotations with bbox [x, y, width, height] in pixels; `iscrowd` is ignored.

Format: https://cocodataset.org/#format-data. Every image that a file lists is annotated; one without an annotation is empty. Of videos the
keys are those of the CocoVID form that MMTracking writes: `videos`, images with video_id and frame_id (from 0), annotations with
instance_id or track_id.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from vidkd.base.errors import DataError
from vidkd.detection.layouts.common import Box, Corners, Reading, labelled_frame, not_found, read_typed, subset_in
from vidkd.video.files import is_video_file
from vidkd.video.image_sequence import list_images

EXPECTED = "annotations/instances_<subset>.json (or *.json there, or <subset>/_annotations.coco.json), images in <subset>/ or images/"


class _Category(Struct):
    id: int
    name: str


class _Image(Struct):
    id: int
    file_name: str
    width: int
    height: int
    video_id: int | str | None = None
    frame_id: int | None = None


class _Annotation(Struct):
    image_id: int
    category_id: int
    bbox: Corners
    iscrowd: int | bool = 0
    instance_id: int | None = None
    track_id: int | None = None


class _Video(Struct):
    id: int
    name: str
    file_name: str | None = None


class _Document(Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]
    videos: list[_Video] = []


def read(root: Path, files: Sequence[Path]) -> Reading:
    """The frames of every annotation file; the subset is the word train, val or test in the file's name, or in its folder's."""
    classes, documents = _documents(root, files)
    frames = []
    for path, document in documents.items():
        subset = subset_in(path.stem) or subset_in(path.parent.name)
        for row, boxes in _images(path, document):
            group = "" if row.video_id is None else f"video {row.video_id}"
            image = _image_path(root, path, row.file_name)
            frames.append(labelled_frame(_where(path, row), image, (row.width, row.height), boxes, group=group, subset=subset))
    return classes, frames


def read_videos(root: Path, files: Sequence[Path]) -> Reading:
    """The frames of every file, in order of video and frame. A frame's path is its video, or the folder of its images."""
    classes, documents = _documents(root, files)
    frames = []
    for path, document in documents.items():
        videos = {video.id: video for video in document.videos}
        for row, boxes in _images(path, document):
            if row.video_id not in videos or row.frame_id is None:
                raise DataError(f"{_where(path, row)}: no frame_id, or a video_id that is not among the videos")
            video = videos[int(row.video_id)]
            more = {"group": video.name, "frame_index": row.frame_id, "subset": subset_in(path.stem)}
            file = _video_path(root, path, row, video, row.frame_id)
            frames.append(labelled_frame(_where(path, row), file, (row.width, row.height), boxes, **more))
    return classes, sorted(frames, key=lambda frame: (frame.group, frame.frame_index))


def _where(path: Path, row: _Image) -> str:
    return f"{path}: image {row.id}"


def _documents(root: Path, files: Sequence[Path]) -> tuple[list[str], dict[Path, _Document]]:
    """Class names in the order of their category ids, which all files must share, and the files: those named, else those found."""
    patterns = ("annotations/instances_*.json", "annotations/*.json", "*.json", "*/_annotations.coco.json")
    files = files or next((found for pattern in patterns if (found := sorted(root.glob(pattern)))), [])
    if not files:
        raise not_found(root, EXPECTED, "no annotation file")
    documents = {path: read_typed(path, _Document) for path in files}
    categories = [sorted((row.id, row.name) for row in document.categories) for document in documents.values()]
    for path, own in zip(files, categories, strict=True):
        if own != categories[0] or len(dict(own)) < len(own):
            raise DataError(f"{path}: a category id is given twice, or categories are other than in {files[0]}")
    return [name for _, name in categories[0]], documents


def _images(path: Path, document: _Document) -> list[tuple[_Image, list[Box]]]:
    """Every image with its boxes. DataError for an image id given twice, and for an annotation of no image or category."""
    labels = {number: label for label, number in enumerate(sorted(row.id for row in document.categories))}
    boxes: Mapping[int, list[Box]] = {image.id: [] for image in document.images}
    if len(boxes) < len(document.images):
        raise DataError(f"{path}: an image id is given twice")
    for number, row in enumerate(document.annotations):
        if row.image_id not in boxes or row.category_id not in labels:
            raise DataError(f"{path}: annotations[{number}]: image {row.image_id} or category {row.category_id} is not in the file")
        x, y, width, height = row.bbox
        track = row.instance_id if row.track_id is None else row.track_id
        boxes[row.image_id].append(Box((x, y, x + width, y + height), labels[row.category_id], bool(row.iscrowd), track))
    return [(image, boxes[image.id]) for image in document.images]


def _image_path(root: Path, annotations: Path, name: str) -> str:
    """Path from the root of an image that a file of annotations names; where none is there, the first place that was looked in."""
    stem = annotations.stem.rsplit("_", 1)[-1]
    here = annotations.parent.relative_to(root).as_posix() if root in annotations.parents else "."
    places = [str(PurePosixPath(folder, name)) for folder in (".", here, stem, "images", f"images/{stem}", subset_in(stem) or ".")]
    return next((place for place in places if (root / place).is_file()), places[0])


def _video_path(root: Path, path: Path, row: _Image, video: _Video, index: int) -> str:
    """The video where the file names one, else the folder of the image, in which it must be at the place `index`."""
    own = video.file_name or video.name
    if is_video_file(Path(own)):
        return _image_path(root, path, own)
    image = PurePosixPath(_image_path(root, path, row.file_name))
    if not (root / image).is_file():
        return image.as_posix()  # under its own name it is counted among the files that are missing
    listed = list_images(str(root / image.parent))
    if [file.name for file in listed[index : index + 1]] != [image.name]:
        raise DataError(f"{_where(path, row)}: frame_id {index} is not the place of {image.name}", images=len(listed), hint="count from 0")
    return image.parent.as_posix()
