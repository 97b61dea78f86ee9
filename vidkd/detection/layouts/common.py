"""What the layouts of boxes share: options, the reading that they return, checks, and images."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import read_json
from vidkd.data.layouts.common import shortened
from vidkd.detection.annotations import ANY_CLASS, BoxManifest, LabelledFrame, box_problem, check_frame
from vidkd.video.image_sequence import IMAGE_SUFFIXES

Typed = TypeVar("Typed")

# what VOC and YouTube-Objects call it -> what COCO calls it
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


@dataclass(frozen=True, kw_only=True)
class BoxOptions:
    """How to read a layout.

    annotations: files to read in place of those that the layout looks for (coco, coco_video, mot, davis). classes: what labels shall index
    (a detector's class names, say); boxes of other classes are left out and counted. In yolo, where no file names the classes: their names.
    allow_missing: leave out frames whose file is not there. missing_is_empty: an image without a label file has nothing in it (yolo);
    else it is taken as not annotated.
    """

    annotations: tuple[Path, ...] = ()
    classes: tuple[str, ...] = ()
    allow_missing: bool = False
    missing_is_empty: bool = False


@dataclass(frozen=True, kw_only=True)
class BoxReading:
    """A manifest not yet written, and remarks for the user on what was left out."""

    manifest: BoxManifest
    notes: tuple[str, ...] = ()


BoxLayout: TypeAlias = Callable[[Path, BoxOptions], BoxReading]


@dataclass(frozen=True, kw_only=True)
class Box:
    """One box as a layout reads it: x1 y1 x2 y2 in pixels, class index, whether to ignore it, and its track where known."""

    corners: tuple[float, float, float, float]
    label: int
    ignore: bool = False
    track_id: int | None = None


def with_boxes(bare: LabelledFrame, boxes: Sequence[Box], left_out: Counter[str], classes: Sequence[str], where: str) -> LabelledFrame:
    """`bare` with these boxes. Boxes without area and boxes outside the frame, which published sets have, are left out and counted.

    Raises DataError, beginning with `where`, for values that no frame can have.
    """
    kept = []
    for box in boxes:
        problem = box_problem(box.corners, bare.width, bare.height)
        if problem in ("empty", "outside the frame"):
            left_out["without area" if problem == "empty" else problem] += 1
        else:
            kept.append(box)
    tracks = [box.track_id for box in kept]
    frame = dataclasses.replace(
        bare,
        boxes=np.asarray([box.corners for box in kept], np.float32).reshape(-1, 4),
        labels=np.asarray([box.label for box in kept], np.int64),
        ignore=np.asarray([box.ignore for box in kept], bool),
        track_ids=np.asarray(tracks, np.int64) if tracks and None not in tracks else None,
    )
    check_frame(frame, classes, where)
    return frame


def bare_frame(
    path: str,
    width: int,
    height: int,
    group: str,
    *,
    frame_index: int | None = None,
    time_s: float | None = None,
    subset: str = "",
    complete: bool = True,
) -> LabelledFrame:
    """A frame whose boxes come later, see `with_boxes`. group: "" for an image whose path decides it, see `grouped_by_path`."""
    return LabelledFrame(
        path=path,
        width=width,
        height=height,
        group=group,
        frame_index=frame_index,
        time_s=time_s,
        subset=subset,
        complete=complete,
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        ignore=np.zeros(0, bool),
    )


def finish(
    name: str,
    root: Path,
    classes: Sequence[str],
    frames: Sequence[LabelledFrame],
    options: BoxOptions,
    left_out: Counter[str],
    *,
    expected: str,
    notes: Sequence[str] = (),
) -> BoxReading:
    """The reading of these frames, images without a group grouped by their paths.

    Raises DataError without any frame, for one that is listed twice, or for missing files unless `allow_missing`.
    """
    missing = sorted({path for path in dict.fromkeys(frame.path for frame in frames) if not (root / path).exists()})
    if missing and not options.allow_missing:
        raise DataError(
            f"data set '{name}': {len(missing)} of the files that its annotations name are missing",
            looked_in=root,
            missing=shortened(missing),
            hint="unpack the archive again, or leave these out with allow_missing",
        )
    gone = set(missing)
    frames = grouped_by_path([frame for frame in frames if frame.path not in gone])
    if not frames:
        raise not_found(name, root, expected, "no annotated frame")
    again = [key for key, count in Counter(frame.key for frame in frames).items() if count > 1]
    if again:
        raise DataError(f"data set '{name}': a frame is listed twice: {again[0][0]}", looked_in=root, hint="list it on one side only")
    remarks = [f"{len(missing)} files are missing: {shortened(missing)}"] if missing else []
    remarks += [f"{count} boxes left out: {why}" for why, count in sorted(left_out.items())]
    manifest = BoxManifest(name=name, root=root, classes=tuple(classes), frames=tuple(frames))
    if options.classes:
        manifest, dropped = in_classes(manifest, options.classes)
        remarks += [f"{dropped} boxes left out: of other classes than those asked for"] if dropped else []
    return BoxReading(manifest=manifest, notes=(*notes, *remarks))


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


def in_classes(manifest: BoxManifest, classes: tuple[str, ...]) -> tuple[BoxManifest, int]:
    """The manifest with labels of these classes, by name (VOC's as COCO's too), and how many boxes are of none. Frames stay."""
    names = [name if name in classes else COCO_NAMES.get(name, name) for name in manifest.classes]
    new = {label: classes.index(name) for label, name in enumerate(names) if name in classes} | {ANY_CLASS: ANY_CLASS}
    frames = tuple(_relabelled(frame, new) for frame in manifest.frames)
    dropped = sum(map(len, manifest.frames)) - sum(map(len, frames))
    return dataclasses.replace(manifest, classes=classes, frames=frames), dropped


def _relabelled(frame: LabelledFrame, new: Mapping[int, int]) -> LabelledFrame:
    kept = np.asarray([label in new for label in frame.labels.tolist()], bool)
    return dataclasses.replace(
        frame,
        boxes=frame.boxes[kept],
        labels=np.asarray([new[label] for label in frame.labels[kept].tolist()], np.int64),
        ignore=frame.ignore[kept],
        track_ids=None if frame.track_ids is None else frame.track_ids[kept],
    )


def not_found(name: str, root: Path, expected: str, found: str) -> DataError:
    """The error for a data set that is not there, or not as its archive unpacks."""
    return DataError(f"data set '{name}' not found", looked_in=root, expected=expected, found=found, hint="name the folder that holds it")


def label_of(name: str, classes: Sequence[str], where: str) -> int:
    """Index of a class; DataError, beginning with `where`, for an unknown name."""
    if name not in classes:
        raise DataError(f"{where}: unknown class '{name}'", known=shortened(classes), hint="name all classes")
    return classes.index(name)


def subset_in(name: str) -> str:
    """The subset, train, val or test, that a file or folder name holds as a word, as in instances_val2017; "" for none.

    The last such word counts: train_test is the test list of the class "train".
    """
    words = name.lower().replace("-", "_").replace(".", "_").split("_")
    spellings = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
    return next((subset for word in reversed(words) for start, subset in spellings.items() if word.rstrip("0123456789") == start), "")


def read_typed(path: Path, kind: type[Typed]) -> Typed:
    """A JSON file as this type. Raises DataError, naming file and place in it, if it is missing or anything else."""
    return typed(read_json(path), kind, str(path))


def typed(content: object, kind: type[Typed], where: str) -> Typed:
    """Plain values as this type. Raises DataError, beginning with `where`, if they are anything else."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: {error}") from None


_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values for a picture turned by a quarter


def images_in(folder: Path) -> list[Path]:
    """The images of a folder and those below, sorted, without hidden files."""
    files = folder.rglob("*") if folder.is_dir() else ()
    return sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file())


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture, read from its header only. Raises DataError if it is no image."""
    with _opened(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE else (width, height)


def read_image(path: Path) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) of the upright picture. Raises DataError if it is no image or cut off."""
    from PIL import ImageOps

    with _opened(path) as image:
        try:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise for damaged files
            raise DataError(f"damaged image: {path}", reason=error) from None


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except FileNotFoundError:
        raise DataError(f"no such image: {path}") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"not an image: {path}", reason=error) from None
