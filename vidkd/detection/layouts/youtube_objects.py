"""YouTube-Objects v2.3 (Kalogeiton et al. 2016): YTOdevkit/YTO/{Annotations,ImageSets,JPEGImages} in the form of PASCAL VOC 2007.

From its README: ten classes of VOC; the training frames have one box each although more objects may be there, the test frames have all
objects of the video's own class. Not checked against the archive: the names of the lists in ImageSets/ (any *.txt below it whose name holds
train, val or test as a word, or begins with it, is read as one), and whether a file name tells its video (a folder is taken as the group,
else each frame is one). Versions 1 and 2.2, whose boxes are in MATLAB files, are not read.
"""

from pathlib import Path

from vidkd.data.layouts.lists import read_lines
from vidkd.detection.layouts.layout import BoxOptions, BoxReading, not_found, subset_in
from vidkd.detection.layouts.voc import read_voc

EXPECTED = "YTOdevkit/YTO/ (or YTO/, or the root itself) with Annotations/, ImageSets/ and JPEGImages/"
CLASSES = ("aeroplane", "bird", "boat", "car", "cat", "cow", "dog", "horse", "motorbike", "train")


def read(root: Path, options: BoxOptions) -> BoxReading:
    """Frames of the training lists are incomplete: fit to train on with care and to measure recall, not precision."""
    base = next((root / name for name in ("YTOdevkit/YTO", "YTO", ".") if (root / name / "Annotations").is_dir()), None)
    if base is None:
        raise not_found("youtube_objects", root, EXPECTED, "no Annotations/")
    return read_voc("youtube_objects", base, options, subsets=_subsets(base), known=CLASSES, incomplete=("train",))


def _subsets(base: Path) -> dict[str, str]:
    """Lists of one class (`car_train.txt`) may end in VOC's flag, -1 for "not this class"; such a row says nothing of the subset."""
    subsets: dict[str, str] = {}
    for file in sorted((base / "ImageSets").rglob("*.txt")):
        subset = subset_in(file.stem) or next((name for name in ("train", "val", "test") if file.stem.lower().startswith(name)), "")
        for _, line in read_lines(file) if subset else ():
            name, *flag = line.split()
            if flag != ["-1"]:
                subsets[name] = subset
    return subsets
