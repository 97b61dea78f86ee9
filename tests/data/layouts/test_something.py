"""Something-Something v2 as its archive unpacks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options
from vidkd.data.layouts.something import read

Tree = Callable[..., Path]
LABELS = {"Pushing something from left to right": "1", "Holding something next to something": "0", "Moving something, something down": "2"}
TRAIN = [{"id": "11", "label": "x", "template": "Pushing [something] from left to right", "placeholders": ["cup"]}]
VALIDATION = [{"id": "7", "label": "x", "template": "Moving [something], [something] down", "placeholders": ["a", "b"]}]
TEST = [{"id": "5"}]


def texts(folder: str = "labels", **changes: Any) -> dict[str, str]:
    content = {"labels": LABELS, "train": TRAIN, "validation": VALIDATION, "test": TEST, **changes}
    return {f"{folder}/{name}.json": json.dumps(rows) for name, rows in content.items()}


@pytest.mark.parametrize(("videos", "lists", "suffix"), [("20bn-something-something-v2", "labels", ".webm"), ("videos", "splits", ".mp4")])
def test_both_forms(tree: Tree, videos: str, lists: str, suffix: str) -> None:
    manifest = read(tree([f"{videos}/{name}{suffix}" for name in (11, 7, 5)], texts(lists)), Options()).manifest
    assert manifest.classes == (
        "Holding something next to something",
        "Pushing something from left to right",
        "Moving something, something down",
    )
    assert not manifest.horizontal_flip, "labels name directions"
    assert [(clip.path, clip.label, dict(clip.subsets)) for clip in manifest.clips] == [
        (f"{videos}/11{suffix}", 1, {"1": "train", "val_as_test": "train"}),
        (f"{videos}/7{suffix}", 2, {"1": "val", "val_as_test": "test"}),
        (f"{videos}/5{suffix}", None, {"1": "test"}),
    ]
    assert set(manifest.sources) == {f"{lists}/{name}.json" for name in ("labels", "train", "validation", "test")}


def test_a_missing_video_is_named(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"1 of the 3 clips(.|\n)*missing +: 7\n"):
        read(tree(["videos/11.webm", "videos/5.webm"], texts()), Options())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"a": "0", "b": "2"}}, "from 0 without a gap"),
        ({"labels": ["a"]}, "not a map of label to number"),
        ({"labels": {"a": "first"}}, "not a map of label to number"),
        ({"train": {"11": {}}}, "not a list of clips with an id"),
        ({"train": [{"id": "11"}]}, r"train\.json\[0\]: template '' is not in labels\.json"),
        ({"train": [{"id": "11", "template": "Eating [something]"}]}, r"template 'Eating something' is not in labels\.json"),
        ({"test": [{"id": "7"}]}, r"test\.json\[0\]: '/?7' is listed before, as val of split 1"),
    ],
)
def test_a_bad_list_is_named(tree: Tree, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tree(["videos/11.webm", "videos/7.webm", "videos/5.webm"], texts(**changes)), Options())


@pytest.mark.parametrize("name", ["labels", "train"])
def test_a_missing_list_is_named(tree: Tree, name: str) -> None:
    root = tree(["videos/11.webm"], texts())
    (root / "labels" / f"{name}.json").unlink()
    with pytest.raises(DataError, match=rf"'something' not found(.|\n)*no {name}\.json in labels/"):
        read(root, Options())
