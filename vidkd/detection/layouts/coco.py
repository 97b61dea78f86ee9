"""COCO JSON: images, annotations with bbox [x, y, width, height] in pixels, categories; `iscrowd` is a region to ignore.

Format: https://cocodataset.org/#format-data. Every image that a file lists is annotated; one without an annotation is empty.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from vidkd.base.errors import DataError
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts import json_parts as parts
from vidkd.detection.layouts.layout import Box, BoxOptions, BoxReading, bare_frame, finish, not_found, subset_in, with_boxes

EXPECTED = "annotations/instances_<subset>.json (or *.json there, or <subset>/_annotations.coco.json), images in <subset>/ or images/"

FramesOf: TypeAlias = Callable[[Path, Path, dict[str, Any], Sequence[str], Counter[str]], list[LabelledFrame]]


def read(root: Path, options: BoxOptions) -> BoxReading:
    """The frames of every annotation file; the subset is the word train, val or test in the file's name, or in its folder's."""
    return read_documents("coco", root, options, _frames, expected=EXPECTED)


def read_documents(name: str, root: Path, options: BoxOptions, frames_of: FramesOf, *, expected: str) -> BoxReading:
    """The frames that `frames_of` (root, path, document, classes, left out) makes of every annotation file, in the order of the files."""
    documents = [(path, parts.read_object(path)) for path in annotation_files(name, root, options)]
    classes = shared_classes(documents)
    left_out: Counter[str] = Counter()
    frames = [frame for path, document in documents for frame in frames_of(root, path, document, classes, left_out)]
    return finish(root.name or name, root, classes, frames, options, left_out, expected=expected)


def annotation_files(name: str, root: Path, options: BoxOptions) -> list[Path]:
    """The JSON files to read: those named, else what lies in annotations/, in the root, or one folder down. DataError for none."""
    if options.annotations:
        return list(options.annotations)
    for pattern in ("annotations/instances_*.json", "annotations/*.json", "*.json", "*/_annotations.coco.json"):
        if found := sorted(root.glob(pattern)):
            return found
    raise not_found(name, root, EXPECTED, "no annotation file")


def shared_classes(documents: Sequence[tuple[Path, dict[str, Any]]]) -> list[str]:
    """Class names in the order of their category ids, which all files must share. DataError where they differ."""
    first: dict[int, str] | None = None
    for path, document in documents:
        own = categories(document, path)
        if first is not None and own != first:
            raise DataError(f"{path}: other categories than in {documents[0][0]}", hint="read the files one by one")
        first = own
    return list((first or {}).values())


def categories(document: dict[str, Any], path: Path) -> dict[int, str]:
    """Category id -> name, by rising id. DataError for an id or a name given twice."""
    names: dict[int, str] = {}
    for where, row in parts.rows(document, "categories", path):
        number, name = parts.whole(row, "id", where), parts.text(row, "name", where)
        if number in names or name in names.values():
            raise DataError(f"{where}: category {number} '{name}' is given twice")
        names[number] = name
    return dict(sorted(names.items()))


def _frames(root: Path, path: Path, document: dict[str, Any], classes: Sequence[str], left_out: Counter[str]) -> list[LabelledFrame]:
    subset = subset_in(path.stem) or subset_in(path.parent.name)
    images = image_rows(document, path)
    boxes = boxes_by_image(document, path, set(images))
    frames = []
    for number, (where, row) in images.items():
        file = image_path(root, path, parts.text(row, "file_name", where))
        video = row.get("video_id")
        bare = bare_frame(file, *image_size(row, where), group="" if video is None else f"video {video}", subset=subset)
        frames.append(with_boxes(bare, boxes[number], left_out, classes, where))
    return frames


def image_rows(document: dict[str, Any], path: Path) -> dict[int, tuple[str, dict[str, Any]]]:
    """Image id -> (where, row); DataError for an id given twice."""
    images: dict[int, tuple[str, dict[str, Any]]] = {}
    for where, row in parts.rows(document, "images", path):
        number = parts.whole(row, "id", where)
        if number in images:
            raise DataError(f"{where}: image id {number} is given twice, first in {images[number][0]}")
        images[number] = where, row
    return images


def image_size(row: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Width and height that a row of `images` tells."""
    return parts.whole(row, "width", where, 1), parts.whole(row, "height", where, 1)


def boxes_by_image(document: dict[str, Any], path: Path, images: set[int], track_key: str | None = None) -> dict[int, list[Box]]:
    """The boxes of every image id. DataError for an annotation of an image or category that is not there."""
    labels = {number: label for label, number in enumerate(categories(document, path))}
    boxes: dict[int, list[Box]] = {image: [] for image in images}
    for where, row in parts.rows(document, "annotations", path):
        image, category = parts.whole(row, "image_id", where), parts.whole(row, "category_id", where)
        if image not in boxes:
            raise DataError(f"{where}: image {image} is not among the images")
        if category not in labels:
            raise DataError(f"{where}: category {category} is not among the categories", known=", ".join(map(str, labels)))
        x, y, width, height = parts.numbers(row, "bbox", where, 4)
        crowd = bool(parts.whole({"iscrowd": 0, **row}, "iscrowd", where, 0))
        track = parts.whole(row, track_key, where) if track_key else None
        boxes[image].append(Box(corners=(x, y, x + width, y + height), label=labels[category], ignore=crowd, track_id=track))
    return boxes


def image_path(root: Path, annotations: Path, name: str) -> str:
    """Path from the root of an image that a file of annotations names; where none is there, the first place that was looked in."""
    stem = annotations.stem.rsplit("_", 1)[-1]
    here = annotations.parent.relative_to(root).as_posix() if root in annotations.parents else "."
    places = [str(PurePosixPath(folder, name)) for folder in (".", here, stem, "images", f"images/{stem}", subset_in(stem) or ".")]
    return next((place for place in places if (root / place).is_file()), places[0])
