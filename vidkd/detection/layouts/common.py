"""What the layouts of boxes share: frames with checked boxes, groups from paths, and images."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.detection.annotations import LabelledFrame
from vidkd.video.image_sequence import IMAGE_SUFFIXES

Typed = TypeVar("Typed")
Corners: TypeAlias = tuple[float, float, float, float]
Reading: TypeAlias = tuple[Sequence[str], list[LabelledFrame]]
"""What a layout reads: the names of the classes, and the frames whose labels index them."""


class Box(NamedTuple):
    """One box as a layout reads it: x1 y1 x2 y2 in pixels, class index, whether to ignore it, and its track where known."""

    corners: Corners
    label: int
    ignore: bool = False
    track_id: int | None = None


def labelled_frame(where: str, path: str, size: tuple[int, int], boxes: Sequence[Box], **more: Any) -> LabelledFrame:
    """A frame of (width, height) with these boxes; those without area or outside the frame, which published sets have, are left out.

    more: frame_index, time_s, subset, complete of LabelledFrame, and group, without which the path decides it (`grouped_by_path`).
    Raises DataError, beginning with `where`, for a size or a box that no frame can have.
    """
    width, height = size
    corners = np.array([box.corners for box in boxes], np.float64).reshape(-1, 4)
    if min(size) < 1 or not np.isfinite(corners).all():
        raise DataError(f"{where}: a box is not finite, or the frame of {width} x {height} pixels is empty", frame=path)
    x1, y1, x2, y2 = corners.T
    kept = np.flatnonzero((x2 > x1) & (y2 > y1) & (x2 > 0) & (y2 > 0) & (x1 < width) & (y1 < height))
    tracks = [boxes[number].track_id for number in kept.tolist()]
    return LabelledFrame(
        path=path,
        width=width,
        height=height,
        boxes=corners[kept].astype(np.float32),
        labels=np.array([box.label for box in boxes], np.int64)[kept],
        ignore=np.array([box.ignore for box in boxes], bool)[kept],
        track_ids=np.array(tracks, np.int64) if tracks and None not in tracks else None,
        **{"group": "", **more},
    )


_IMAGE_FOLDERS = ("images", "jpegimages")
_PHOTO = re.compile(r"(img|image|dsc\w?|pxl|pic|picture|photo|p|coco(_\w+)?)?", re.IGNORECASE)
_NUMBERED = re.compile(
    r"(?P<video>.*?)[-_. ]*((?P<marked>(?<![a-z])(frame|frm)|(?<=[-_.])(mp4|avi|mov|mkv|webm))[-_. ]*\d+|\d{3,})", re.IGNORECASE
)


def grouped_by_path(frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    """The frames, each image whose group is "" in the group of its video as far as its path names one.

    Where images are in several folders (besides images/ and those of subsets), the folder is the video. Else `street_0012.jpg`,
    `street_frame7.jpg` and `street_mp4-7_jpg.rf.<hash>.jpg` (Roboflow) are frames of the video `street`; numbered photos (`IMG_0012.jpg`,
    `COCO_val2014_...`, a number or date only) are each a group of their own.
    """
    folders = {frame.path: _own_folder(frame.path) for frame in frames if not frame.group}
    in_folders = len({folder for folder in folders.values() if folder}) > 1
    groups = {path: folder if in_folders and folder else _video_of(path) for path, folder in folders.items()}
    return [dataclasses.replace(frame, group=frame.group or groups[frame.path]) for frame in frames]


def _own_folder(path: str) -> str:
    """The folders of an image, without images/ and those named after a subset."""
    return "/".join(part for part in PurePosixPath(path).parts[:-1] if part.lower() not in _IMAGE_FOLDERS and not subset_in(part))


def _video_of(path: str) -> str:
    """The video in the name of an image, with its folder; else the path."""
    stem = re.sub(r"_(jpe?g|png|bmp|webp)$", "", re.sub(r"\.rf\.\w+$", "", PurePosixPath(path).stem), flags=re.IGNORECASE)
    match = _NUMBERED.fullmatch(stem)
    if match is None or (not match["marked"] and (_PHOTO.fullmatch(match["video"]) or not re.search(r"[^\W\d_]", match["video"]))):
        return path
    return "/".join(part for part in (_own_folder(path), match["video"] or "frame") if part)


def not_found(root: Path, expected: str, found: str) -> DataError:
    """The error for a data set that is not there, or not as its archive unpacks."""
    return DataError("data set not found", looked_in=root, expected=expected, found=found, hint="name the folder that holds it")


def subset_in(name: str) -> str:
    """The subset, train, val or test, that a file or folder name holds as a word, as in instances_val2017; "" for none.

    The last such word counts: train_test is the test list of the class "train".
    """
    spellings = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
    words = [word.rstrip("0123456789") for word in re.split(r"[-_.]", name.lower())]
    return next((spellings[word] for word in reversed(words) if word in spellings), "")


def read_typed(path: Path, kind: type[Typed]) -> Typed:
    """A JSON file as this type, a .jsonl file as a list of its rows. Raises DataError if it is missing or anything else."""
    try:
        content = path.read_bytes()
        if path.suffix == ".jsonl":
            content = b"[" + content.strip().replace(b"\n", b",") + b"]"
        return msgspec.json.decode(content, type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"cannot read annotations: {path}", reason=error) from None


_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values for a picture turned by a quarter


def images_in(folder: Path) -> list[Path]:
    """The images of a folder and those below, sorted, without hidden files."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture, read from its header only. Raises DataError if it is no image."""
    with _opened(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE else (width, height)


def read_image(path: Path) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) of the upright picture. Raises DataError if it is no image or truncated."""
    from PIL import ImageOps

    with _opened(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises for damaged files
        raise DataError(f"cannot read image: {path}", reason=error) from None
