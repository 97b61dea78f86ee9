"""HMDB51: <class>/*.avi and testTrainMulti_7030_splits/<class>_test_split<k>.txt, or videos/ and splits/."""

import re
from collections.abc import Sequence
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import ClipFiles, Listed, Options, Reading, assemble, first_folder, not_found
from vidkd.data.layouts.lists import read_list, stem

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
    if not paths:
        not_found(name, root, expected, f"no <class>_test_split1.txt in {folder.name}/")
    classes = sorted({label for label, _ in paths})
    splits = sorted({split for _, split in paths}, key=int)
    listed: dict[tuple[str, str], Listed] = {}
    for label, class_name in enumerate(classes):
        for split in splits:
            if (class_name, split) not in paths:
                not_found(name, root, expected, f"{class_name}_test_split{split}.txt is missing in {folder.name}/")
            _read_split(paths[class_name, split], class_name, label, split, listed)
    return assemble(
        name=name,
        root=root,
        classes=classes,
        splits=splits,
        listed=listed.values(),
        files=ClipFiles(root, first_folder(name, root, videos, expected), classes),
        lists=sorted(paths.values()),
        options=options,
        expected=expected,
    )


def _read_split(path: Path, class_name: str, label: int, split: str, listed: dict[tuple[str, str], Listed]) -> None:
    for where, name, number in read_list(path):
        if number not in _SUBSETS:
            raise DataError(f"{where}: '{name}' is neither train nor test", expected="<clip>.avi 0 (unused), 1 (train) or 2 (test)")
        key = (class_name, stem(name))
        clip = listed.setdefault(key, Listed(key=key, label=label, group=_source(stem(name), class_name)))
        if subset := _SUBSETS[number]:
            clip.place(split, subset, where)


def _source(name: str, class_name: str) -> str:
    """Name of the source video: the part before the last _<class>_, which begins the tags; the whole name if there is none."""
    return name.rpartition(f"_{class_name}_")[0] or name
