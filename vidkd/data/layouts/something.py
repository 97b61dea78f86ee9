"""Something-Something v2: 20bn-something-something-v2/<id>.webm and labels/{labels,train,validation,test}.json."""

from pathlib import Path
from typing import Any

from vidkd.base.errors import DataError
from vidkd.base.files import read_json
from vidkd.data.layouts.common import ClipFiles, Listed, Options, Reading, assemble, first_folder, not_found

EXPECTED = "20bn-something-something-v2/<id>.webm and labels/{labels,train,validation,test}.json, or the same in videos/ and splits/"
_SPLIT, _VALIDATION_TESTS = "1", "val_as_test"
_SUBSETS = {"train": "train", "validation": "val", "test": "test"}


def read(root: Path, options: Options) -> Reading:
    """Split "1" is the published one, whose test clips are unlabelled; in "val_as_test" the validation clips are the test, as in papers.

    A third of the labels name a direction ("from left to right"), so the manifest forbids horizontal flips.
    """
    videos = first_folder("something", root, ("20bn-something-something-v2", "videos"), EXPECTED)
    folder = first_folder("something", root, ("labels", "splits"), EXPECTED)
    labels = _labels(root, folder / "labels.json")
    lists = [path for name in _SUBSETS if (path := folder / f"{name}.json").is_file()]
    if not (folder / "train.json").is_file():
        not_found("something", root, EXPECTED, f"no train.json in {folder.name}/")
    listed: dict[tuple[str, str], Listed] = {}
    for path in lists:
        _read_list(path, _SUBSETS[path.stem], labels, listed)
    return assemble(
        name="something",
        root=root,
        classes=list(labels),
        splits=(_SPLIT, _VALIDATION_TESTS),
        listed=listed.values(),
        files=ClipFiles(root, videos, [""]),
        lists=[folder / "labels.json", *lists],
        options=options,
        expected=EXPECTED,
        horizontal_flip=False,
    )


def _labels(root: Path, path: Path) -> dict[str, int]:
    """Template text -> label, in the order of the labels, which must run from 0 without a gap."""
    if not path.is_file():
        not_found("something", root, EXPECTED, f"no {path.name} in {path.parent.name}/")
    content = read_json(path)
    if not isinstance(content, dict) or not all(str(number).isdecimal() for number in content.values()):
        raise DataError(f"not a map of label to number: {path}", hint="take it from the archive again")
    labels = {text: int(number) for text, number in sorted(content.items(), key=lambda item: int(item[1]))}
    if list(labels.values()) != list(range(len(labels))):
        raise DataError(f"the numbers of {path} do not run from 0 to {len(labels) - 1}", hint="take it from the archive again")
    return labels


def _read_list(path: Path, subset: str, labels: dict[str, int], listed: dict[tuple[str, str], Listed]) -> None:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(row, dict) and "id" in row for row in content):
        raise DataError(f"not a list of clips with an id: {path}", hint="take it from the archive again")
    for number, row in enumerate(content):
        where = f"{path}[{number}]"
        key = ("", str(row["id"]))
        clip = listed.setdefault(key, Listed(key=key, label=_label(row, labels, where, required=subset != "test"), group=key[1]))
        clip.place(_SPLIT, subset, where)
        if subset != "test":
            clip.place(_VALIDATION_TESTS, "test" if subset == "val" else subset, where)


def _label(row: dict[str, Any], labels: dict[str, int], where: str, *, required: bool) -> int | None:
    """Templates put the objects in brackets, the label file does not."""
    if "template" not in row and not required:
        return None
    template = str(row.get("template", "")).replace("[", "").replace("]", "")
    if template not in labels:
        raise DataError(f"{where}: template {template!r} is not in labels.json", clip=row["id"])
    return labels[template]
