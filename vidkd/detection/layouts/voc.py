"""PASCAL VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/{train,val,trainval,test}.txt; and YouTube-Objects in its form."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import read_lines, relative
from vidkd.detection.layouts.common import Box, Corners, Reading, image_size, images_in, labelled_frame, not_found, subset_in

EXPECTED = "Annotations/*.xml, JPEGImages/*.jpg (or images/), and optionally ImageSets/Main/{train,val,test}.txt"
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class VocPicture(NamedTuple):
    """What a file says of one image. size: (width, height), 0 where it is missing. objects: name, corners x1 y1 x2 y2 with the edges of the
    whole picture 0, 0, width, height, and whether it is difficult.
    """

    file: Path
    image: str
    size: tuple[int, int]
    objects: list[tuple[str, Corners, bool]]


def read_voc_xml(path: Path) -> VocPicture:
    """Read a file. VOC counts pixels from 1 and includes the last one, so pixels xmin to xmax are the interval xmin - 1 to xmax.

    Raises DataError for what is no XML of this form.
    """
    try:
        tree = ElementTree.parse(path).getroot()  # opens no external entity, and expat bounds what entities grow to
        width, height = (float(tree.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        objects = []
        for item in tree.findall("object"):
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{side}", "nothing")) for side in ("xmin", "ymin", "xmax", "ymax"))
            difficult = (item.findtext("difficult") or "0").strip() != "0"
            objects.append(((item.findtext("name") or "").strip(), (x1 - 1, y1 - 1, x2, y2), difficult))
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"not an annotation of VOC: {path}", reason=error) from None
    return VocPicture(path, (tree.findtext("filename") or "").strip(), (int(width), int(height)), objects)


def read(root: Path, _: Sequence[Path]) -> Reading:
    """Classes are VOC's twenty where all names are among them, else the names found, sorted.

    The subset is that of the list in ImageSets/Main that names the file; trainval counts as train where neither train nor val does.
    """
    subsets: dict[str, str] = {}
    for name, subset in (("trainval", "train"), ("train", "train"), ("val", "val"), ("test", "test")):
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        subsets |= {line.split()[0]: subset for _, line in read_lines(file)} if file.is_file() else {}
    return _read(root, root, subsets, CLASSES)


def _read(root: Path, base: Path, subsets: Mapping[str, str], known: Sequence[str], incomplete: Sequence[str] = ()) -> Reading:
    """A tree in VOC's form at `base`. subsets: path in Annotations/ without suffix -> subset. incomplete: subsets that may lack boxes."""
    folder = base / "Annotations"
    pictures = {file.relative_to(folder).with_suffix("").as_posix(): read_voc_xml(file) for file in sorted(folder.rglob("*.xml"))}
    if not pictures:
        raise not_found(base, EXPECTED, f"no XML file in {folder}")
    if absent := sorted(set(subsets) - set(pictures)):
        raise DataError(f"{len(absent)} files of the lists in ImageSets/ have no annotation", first=absent[0], looked_in=folder)
    names = {name for picture in pictures.values() for name, *_ in picture.objects}
    classes = known if names <= set(known) else sorted(names)
    images = {
        file.relative_to(at).with_suffix("").as_posix(): file for at in (base / "images", base / "JPEGImages") for file in images_in(at)
    }
    frames = []
    for stem, picture in pictures.items():
        subset = subsets.get(stem, "")
        image = images.get(stem, base / f"JPEGImages/{stem}{PurePosixPath(picture.image).suffix or '.jpg'}")
        size = picture.size if min(picture.size) > 0 else image_size(image)
        boxes = [Box(corners, classes.index(name), difficult) for name, corners, difficult in picture.objects]
        more = {"subset": subset, "complete": subset not in incomplete}
        frames.append(labelled_frame(str(picture.file), relative(image, root), size, boxes, **more))
    return classes, frames


# YouTube-Objects v2.3 (Kalogeiton et al. 2016): YTOdevkit/YTO/{Annotations,ImageSets,JPEGImages} in the form of PASCAL VOC 2007.
YTO_EXPECTED = "YTOdevkit/YTO/ (or YTO/, or the root itself) with Annotations/, ImageSets/ and JPEGImages/"
YTO_CLASSES = ("aeroplane", "bird", "boat", "car", "cat", "cow", "dog", "horse", "motorbike", "train")


def read_youtube_objects(root: Path, _: Sequence[Path]) -> Reading:
    """Ten classes of VOC. The training frames have one box each although more objects may be there; the test frames have all objects of
    the video's own class. So frames of the training lists are incomplete: fit to train on with care and to measure recall, not precision.

    From its README. Not checked against the archive: the names of the lists in ImageSets/ (any *.txt below it whose name holds train, val
    or test as a word, or begins with it, is read as one). Lists of one class (`car_train.txt`) may end in VOC's flag, -1 for "not this
    class"; such a row says nothing of the subset. Versions 1 and 2.2, whose boxes are in MATLAB files, are not read.
    """
    base = next((root / name for name in ("YTOdevkit/YTO", "YTO", ".") if (root / name / "Annotations").is_dir()), None)
    if base is None:
        raise not_found(root, YTO_EXPECTED, "no Annotations/")
    subsets: dict[str, str] = {}
    for file in sorted((base / "ImageSets").rglob("*.txt")):
        subset = subset_in(file.stem) or next((name for name in ("train", "val", "test") if file.stem.lower().startswith(name)), "")
        rows = [line.split() for _, line in read_lines(file)] if subset else []
        subsets |= {name: subset for name, *flag in rows if flag != ["-1"]}
    return _read(root, base, subsets, YTO_CLASSES, incomplete=("train",))
