"""Something-Something v2: 20bn-something-something-v2/<id>.webm and labels/{labels,train,validation,test}.json."""

from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.base.files import read_json
from vidkd.data.layouts.common import ClipFiles, Key, Options, Reading, assemble, first_folder, not_found, place
from vidkd.data.manifest import Clip

EXPECTED = "20bn-something-something-v2/<id>.webm and labels/{labels,train,validation,test}.json, or the same in videos/ and splits/"
_SUBSETS = {
    "train": {"1": "train", "val_as_test": "train"},
    "validation": {"1": "val", "val_as_test": "test"},
    "test": {"1": "test"},
}


def read(root: Path, options: Options) -> Reading:
    """Split "1" is the published one, whose test clips are unlabelled; in "val_as_test" the validation clips are the test, as in papers.

    A third of the labels name a direction ("from left to right"), so the manifest forbids horizontal flips.
    """
    videos = first_folder("something", root, ("20bn-something-something-v2", "videos"), EXPECTED)
    folder = first_folder("something", root, ("labels", "splits"), EXPECTED)
    for name in ("labels.json", "train.json"):
        if not (folder / name).is_file():
            not_found("something", root, EXPECTED, f"no {name} in {folder.name}/")
    labels = _labels(folder / "labels.json")
    lists = [path for name in _SUBSETS if (path := folder / f"{name}.json").is_file()]
    listed: dict[Key, Clip] = {}
    for path in lists:
        content = read_json(path)
        if not isinstance(content, list) or not all(isinstance(row, dict) and "id" in row for row in content):
            raise DataError(f"not a list of clips with an id: {path}", hint="take it from the archive again")
        for number, row in enumerate(content):
            template = str(row.get("template", "")).replace("[", "").replace("]", "")  # around the objects, which the labels lack
            if template not in labels and (template or path.stem != "test"):
                raise DataError(f"{path}[{number}]: template {template!r} is not in labels.json", clip=row["id"])
            key, subsets = ("", str(row["id"])), _SUBSETS[path.stem]
            place(listed, key, label=labels.get(template), group=key[1], subsets=subsets, where=f"{path}[{number}]")
    files, sources = ClipFiles(root, videos, [""]), [folder / "labels.json", *lists]
    return assemble("something", root, list(labels), ("1", "val_as_test"), listed, files, sources, options, EXPECTED, horizontal_flip=False)


def _labels(path: Path) -> dict[str, int]:
    """Template text -> label, in the order of the labels, which must run from 0 without a gap."""
    content = read_json(path)
    numbers = {str(number): text for text, number in content.items()} if isinstance(content, dict) else {}
    try:
        return {numbers[str(label)]: label for label in range(len(content))}
    except (KeyError, TypeError):
        raise DataError(f"not a map of label to number, from 0 without a gap: {path}", hint="take it from the archive again") from None
