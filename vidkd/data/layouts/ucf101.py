"""UCF101: UCF-101/<Class>/*.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01,...}.txt, or videos/ and splits/."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vidkd.base.errors import DataError, nearest
from vidkd.data.layouts.common import ClipFiles, Listed, Options, Reading, assemble, first_folder, not_found
from vidkd.data.layouts.lists import read_lines, read_list, stem

EXPECTED = "UCF-101/<Class>/<clip>.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt, or the same in videos/ and splits/"
_GROUP = re.compile(r"_g(\d+)_c\d+$")


def read(root: Path, options: Options) -> Reading:
    """Splits "1" to "3", as far as their two lists are there; a group is one of the 25 of a class, "Punch_g01"."""
    videos = first_folder("ucf101", root, ("UCF-101", "videos"), EXPECTED)
    lists = first_folder("ucf101", root, ("ucfTrainTestlist", "splits"), EXPECTED)
    pairs = _pairs(root, lists)
    numbers = _class_numbers(root, lists / "classInd.txt")
    classes = sorted(numbers, key=numbers.__getitem__)
    listed: dict[tuple[str, str], Listed] = {}
    for split, pair in pairs.items():
        for subset, path in zip(("train", "test"), pair, strict=True):
            _read_split(path, split, subset, numbers, classes, listed)
    return assemble(
        name="ucf101",
        root=root,
        classes=classes,
        splits=list(pairs),
        listed=listed.values(),
        files=ClipFiles(root, videos, classes),
        lists=[lists / "classInd.txt", *(path for pair in pairs.values() for path in pair)],
        options=options,
        expected=EXPECTED,
    )


def _pairs(root: Path, lists: Path) -> dict[str, tuple[Path, Path]]:
    """Split name -> its train and test list; half a split is an error."""
    pairs = {}
    for train in sorted(lists.glob("trainlist*.txt")):
        test = train.with_name(train.name.replace("train", "test", 1))
        if not test.is_file():
            not_found("ucf101", root, EXPECTED, f"{train.name} without {test.name}")
        pairs[train.stem.removeprefix("trainlist").lstrip("0")] = (train, test)
    if not pairs:
        not_found("ucf101", root, EXPECTED, f"no trainlist01.txt in {lists.name}/")
    return pairs


def _class_numbers(root: Path, path: Path) -> dict[str, int]:
    if not path.is_file():
        not_found("ucf101", root, EXPECTED, f"no {path.name} in {path.parent.name}/")
    numbers: dict[str, int] = {}
    for where, line in read_lines(path):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name.strip() or name.strip() in numbers or int(number) in numbers.values():
            raise DataError(f"{where}: not a class of its own: {line!r}", expected="<number> <Class>, each once")
        numbers[name.strip()] = int(number)
    return numbers


def _read_split(
    path: Path, split: str, subset: str, numbers: Mapping[str, int], classes: list[str], listed: dict[tuple[str, str], Listed]
) -> None:
    for where, name, number in read_list(path):
        folder = str(PurePosixPath(name).parent)
        if folder not in numbers:
            close = nearest(folder, classes)
            raise DataError(f"{where}: class '{folder}' is not in classInd.txt", **({"did_you_mean": close} if close else {}))
        if number is not None and number != numbers[folder]:
            raise DataError(f"{where}: class {number} is not '{folder}', which classInd.txt gives number {numbers[folder]}")
        group = _GROUP.search(stem(name))
        if group is None:
            raise DataError(f"{where}: no group in the name '{name}'", expected="v_<Class>_g<group>_c<clip>", hint="or use layout folder")
        key = (folder, stem(name))
        clip = listed.setdefault(key, Listed(key=key, label=classes.index(folder), group=f"{folder}_g{group[1]}"))
        clip.place(split, subset, where)
