"""PASCAL VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/{train,val,trainval,test}.txt; `difficult` objects are ignored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from vidkd.base.errors import DataError
from vidkd.data.layouts.layout import shortened
from vidkd.data.layouts.lists import read_lines
from vidkd.data.layouts.tree import relative
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts.images import image_size, images_in
from vidkd.detection.layouts.layout import Box, BoxOptions, BoxReading, bare_frame, finish, label_of, not_found, with_boxes
from vidkd.detection.layouts.voc_xml import VocPicture, read_voc_xml

EXPECTED = "Annotations/*.xml, JPEGImages/*.jpg (or images/), and optionally ImageSets/Main/{train,val,test}.txt"
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def read(root: Path, options: BoxOptions) -> BoxReading:
    """Classes are VOC's twenty where all names are among them, else the names found, sorted.

    The subset is that of the list in ImageSets/Main that names the file; trainval counts as train where neither train nor val does.
    """
    return read_voc("voc", root, options, subsets=_subsets(root), known=CLASSES)


def read_voc(
    name: str, root: Path, options: BoxOptions, *, subsets: Mapping[str, str], known: Sequence[str], incomplete: Sequence[str] = ()
) -> BoxReading:
    """A tree in VOC's form. subsets: path in Annotations/ without suffix -> subset. incomplete: subsets where objects may lack a box."""
    folder = root / "Annotations"
    files = sorted(folder.rglob("*.xml")) if folder.is_dir() else []
    if not files:
        raise not_found(name, root, EXPECTED, f"no XML file in {folder}")
    pictures = {file.relative_to(folder).with_suffix("").as_posix(): (file, read_voc_xml(file)) for file in files}
    absent = sorted(set(subsets) - set(pictures))
    if absent and not options.allow_missing:
        raise DataError(f"data set '{name}': {len(absent)} files of its lists have no annotation", first=absent[0], looked_in=folder)
    classes = _classes([picture for _, picture in pictures.values()], known)
    images = _images(root)
    left_out: Counter[str] = Counter()
    frames = []
    for stem, (file, picture) in pictures.items():
        subset = subsets.get(stem, "")
        path = images.get(stem) or _absent_image(stem, picture)
        frames.append(_frame(root, path, file, picture, classes, left_out, subset, subset not in incomplete))
    notes = [f"{len(absent)} files of the lists have no annotation: {shortened(absent)}"] if absent else []
    return finish(name, root, classes, frames, options, left_out, expected=EXPECTED, notes=notes)


def _frame(
    root: Path, path: str, file: Path, picture: VocPicture, classes: Sequence[str], left_out: Counter[str], subset: str, complete: bool
) -> LabelledFrame:
    image = root / path
    size = picture.size or (image_size(image) if image.is_file() else None)
    if size is None:
        raise DataError(f"{file}: neither <size> nor the image says how large it is", image=image)
    bare = bare_frame(path, *size, group="", subset=subset, complete=complete)
    return with_boxes(bare, boxes_of(picture, classes), left_out, classes, str(file))


def boxes_of(picture: VocPicture, classes: Sequence[str]) -> list[Box]:
    """The boxes of a picture; DataError with file and line for a name that is no class."""
    return [Box(corners=item.corners, label=label_of(item.name, classes, item.where), ignore=item.difficult) for item in picture.objects]


def _classes(pictures: Sequence[VocPicture], known: Sequence[str]) -> tuple[str, ...]:
    names = {item.name for picture in pictures for item in picture.objects}
    return tuple(known) if names <= set(known) else tuple(sorted(names))


_IMAGE_FOLDERS = ("JPEGImages", "images")


def _images(root: Path) -> dict[str, str]:
    """Path below the image folder without suffix -> path from the root."""
    for name in _IMAGE_FOLDERS:
        if found := images_in(root / name):
            return {file.relative_to(root / name).with_suffix("").as_posix(): relative(file, root) for file in found}
    return {}


def _absent_image(stem: str, picture: VocPicture) -> str:
    suffix = PurePosixPath(picture.filename).suffix or ".jpg"
    return f"JPEGImages/{stem}{suffix}"


def _subsets(root: Path) -> dict[str, str]:
    subsets: dict[str, str] = {}
    for name, subset in (("trainval", "train"), ("train", "train"), ("val", "val"), ("test", "test")):
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        subsets |= {line.split()[0]: subset for _, line in read_lines(file)} if file.is_file() else {}
    return subsets
