"""UCF101: UCF-101/<Class>/*.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01,...}.txt, or videos/ and splits/."""

import re
from pathlib import Path, PurePosixPath

from vidkd.base.errors import DataError, nearest
from vidkd.data.layouts.common import (
    ClipFiles,
    Key,
    Options,
    Reading,
    assemble,
    first_folder,
    not_found,
    place,
    read_lines,
    read_list,
    stem,
)
from vidkd.data.manifest import Clip

EXPECTED = "UCF-101/<Class>/<clip>.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt, or the same in videos/ and splits/"
_GROUP = re.compile(r"_g(\d+)_c\d+$")


def read(root: Path, options: Options) -> Reading:
    """Splits "1" to "3", as far as their two lists are there; a group is one of the 25 of a class, "Punch_g01"."""
    videos = first_folder("ucf101", root, ("UCF-101", "videos"), EXPECTED)
    folder = first_folder("ucf101", root, ("ucfTrainTestlist", "splits"), EXPECTED)
    trains = sorted(folder.glob("trainlist*.txt")) or [folder / "trainlist01.txt"]
    lists = [path for train in trains for path in (train, train.with_name(train.name.replace("train", "test", 1)))]
    for path in (folder / "classInd.txt", *lists):
        if not path.is_file():
            not_found("ucf101", root, EXPECTED, f"no {path.name} in {folder.name}/")
    numbers = _class_numbers(folder / "classInd.txt")
    classes = sorted(numbers, key=numbers.__getitem__)
    listed: dict[Key, Clip] = {}
    for path in lists:
        subset, _, split = path.stem.partition("list")
        for where, name, number in read_list(path):
            class_name = str(PurePosixPath(name).parent)
            if class_name not in numbers:
                close = nearest(class_name, classes)
                raise DataError(f"{where}: class '{class_name}' is not in classInd.txt", **({"did_you_mean": close} if close else {}))
            label, group = classes.index(class_name), _GROUP.search(stem(name))
            if number not in (None, numbers[class_name]):
                raise DataError(f"{where}: class {number} is not '{class_name}', which classInd.txt gives number {numbers[class_name]}")
            if group is None:
                raise DataError(
                    f"{where}: no group in the name '{name}'", expected="v_<Class>_g<group>_c<clip>", hint="or use layout folder"
                )
            key, subsets = (class_name, stem(name)), {split.lstrip("0"): subset}
            place(listed, key, label=label, group=f"{class_name}_g{group[1]}", subsets=subsets, where=where)
    splits = list(dict.fromkeys(path.stem.partition("list")[2].lstrip("0") for path in lists))
    files = ClipFiles(root, videos, classes)
    return assemble("ucf101", root, classes, splits, listed, files, [folder / "classInd.txt", *lists], options, EXPECTED)


def _class_numbers(path: Path) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for where, line in read_lines(path):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name or name in numbers or int(number) in numbers.values():
            raise DataError(f"{where}: not a class of its own: {line!r}", expected="<number> <Class>, each once")
        numbers[name] = int(number)
    return numbers
