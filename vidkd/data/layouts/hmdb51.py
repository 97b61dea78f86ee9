"""HMDB51: <class>/*.avi and testTrainMulti_7030_splits/<class>_test_split<k>.txt, or videos/ and splits/."""

import re
from collections.abc import Sequence
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import ClipFiles, Key, Options, Reading, assemble, first_folder, not_found, place
from vidkd.data.layouts.lists import read_list, stem
from vidkd.data.manifest import Clip

EXPECTED = "<class>/<clip>.avi and testTrainMulti_7030_splits/<class>_test_split<k>.txt, or the same in videos/ and splits/"
_LIST = re.compile(r"(?P<name>.+)_test_split(?P<split>\d+)\.txt")
_SUBSETS = {0: None, 1: "train", 2: "test"}


def read(root: Path, options: Options) -> Reading:
    """Splits "1" to "3": 70 clips of a class train, 30 test, the rest unused. A group is a source video.

    The official splits keep the sources of *one class* apart; a film that shows several classes may train one and test another.
    """
    return read_classwise_lists(
        "hmdb51", root, options, videos=("videos", "hmdb51_org", "."), lists=("testTrainMulti_7030_splits", "splits"), expected=EXPECTED
    )


def read_classwise_lists(name: str, root: Path, options: Options, *, videos: Sequence[str], lists: Sequence[str], expected: str) -> Reading:
    """A data set with one list for each class and split, lines `<clip>.avi <0 unused | 1 train | 2 test>`, as HMDB51 and JHMDB have."""
    folder = first_folder(name, root, lists, expected)
    paths = {(match["name"], match["split"]): path for path in folder.glob("*.txt") if (match := _LIST.fullmatch(path.name))}
    classes = sorted({label for label, _ in paths})
    splits = sorted({split for _, split in paths}, key=int)
    needed = [(label, split) for label in classes for split in splits] or [("<class>", "1")]
    listed: dict[Key, Clip] = {}
    for class_name, split in needed:
        if (class_name, split) not in paths:
            not_found(name, root, expected, f"{class_name}_test_split{split}.txt is missing in {folder.name}/")
        for where, file, number in read_list(paths[class_name, split]):
            if number not in _SUBSETS:
                raise DataError(f"{where}: '{file}' is neither train nor test", expected="<clip>.avi 0 (unused), 1 (train) or 2 (test)")
            source = stem(file).rpartition(f"_{class_name}_")[0] or stem(file)  # the last _<class>_ begins the tags
            subset = _SUBSETS[number]
            subsets = {split: subset} if subset else {}
            place(listed, (class_name, stem(file)), label=classes.index(class_name), group=source, subsets=subsets, where=where)
    files = ClipFiles(root, first_folder(name, root, videos, expected), classes)
    return assemble(name, root, classes, splits, listed, files, sorted(paths.values()), options, expected)
