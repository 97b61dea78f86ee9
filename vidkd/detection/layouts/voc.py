"""PASCAL VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/{train,val,trainval,test}.txt; and YouTube-Objects in its form."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import relative, shortened
from vidkd.data.layouts.lists import read_lines
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts.common import (
    Box,
    BoxOptions,
    BoxReading,
    bare_frame,
    finish,
    image_size,
    images_in,
    label_of,
    not_found,
    subset_in,
    with_boxes,
)


@dataclass(frozen=True, kw_only=True)
class VocObject:
    """One object: corners x1 y1 x2 y2 in pixels, edges of the whole picture 0, 0, width, height."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    where: str


@dataclass(frozen=True, kw_only=True)
class VocPicture:
    """What a file says of one image. size: (width, height), None where it is missing or 0."""

    filename: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_voc_xml(path: Path) -> VocPicture:
    """Read and check a file. Raises DataError with the file and the number of the object for what is wrong.

    VOC counts pixels from 1 and includes the last one, so pixels xmin to xmax are the interval xmin - 1 to xmax.
    """
    try:
        tree = ElementTree.parse(path).getroot()  # opens no external entity, and expat bounds what entities grow to
    except ElementTree.ParseError as error:
        raise DataError(f"{path}:{error.position[0]}: not XML", reason=error) from None
    if tree.tag != "annotation":
        raise DataError(f"{path}: <annotation> expected, found <{tree.tag}>")
    size = tree.find("size")
    width, height = (0.0, 0.0) if size is None else (_number(size, side, f"{path}: <size>") for side in ("width", "height"))
    return VocPicture(
        filename=(tree.findtext("filename") or "").strip(),
        size=(int(width), int(height)) if width >= 1 and height >= 1 else None,
        objects=tuple(_object(item, f"{path}: object {number}") for number, item in enumerate(tree.findall("object"), start=1)),
    )


def _object(item: Element, where: str) -> VocObject:
    name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
    if not name or box is None:
        raise DataError(f"{where}: no {'<bndbox>' if name else '<name>'}")
    x1, y1, x2, y2 = (_number(box, side, where) for side in ("xmin", "ymin", "xmax", "ymax"))
    difficult = (item.findtext("difficult") or "0").strip() != "0"
    return VocObject(name=name, corners=(x1 - 1, y1 - 1, x2, y2), difficult=difficult, where=where)


def _number(parent: Element, name: str, where: str) -> float:
    text = (parent.findtext(name) or "").strip()
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where}: <{name}> must be a number", found=text or "nothing") from None


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


# YouTube-Objects v2.3 (Kalogeiton et al. 2016): YTOdevkit/YTO/{Annotations,ImageSets,JPEGImages} in the form of PASCAL VOC 2007.
YTO_EXPECTED = "YTOdevkit/YTO/ (or YTO/, or the root itself) with Annotations/, ImageSets/ and JPEGImages/"
YTO_CLASSES = ("aeroplane", "bird", "boat", "car", "cat", "cow", "dog", "horse", "motorbike", "train")


def read_youtube_objects(root: Path, options: BoxOptions) -> BoxReading:
    """Ten classes of VOC. The training frames have one box each although more objects may be there; the test frames have all objects of
    the video's own class. So frames of the training lists are incomplete: fit to train on with care and to measure recall, not precision.

    From its README. Not checked against the archive: the names of the lists in ImageSets/ (any *.txt below it whose name holds train, val
    or test as a word, or begins with it, is read as one). Versions 1 and 2.2, whose boxes are in MATLAB files, are not read.
    """
    base = next((root / name for name in ("YTOdevkit/YTO", "YTO", ".") if (root / name / "Annotations").is_dir()), None)
    if base is None:
        raise not_found("youtube_objects", root, YTO_EXPECTED, "no Annotations/")
    return read_voc("youtube_objects", base, options, subsets=_listed_subsets(base), known=YTO_CLASSES, incomplete=("train",))


def _listed_subsets(base: Path) -> dict[str, str]:
    """Lists of one class (`car_train.txt`) may end in VOC's flag, -1 for "not this class"; such a row says nothing of the subset."""
    subsets: dict[str, str] = {}
    for file in sorted((base / "ImageSets").rglob("*.txt")):
        subset = subset_in(file.stem) or next((name for name in ("train", "val", "test") if file.stem.lower().startswith(name)), "")
        for _, line in read_lines(file) if subset else ():
            name, *flag = line.split()
            if flag != ["-1"]:
                subsets[name] = subset
    return subsets
