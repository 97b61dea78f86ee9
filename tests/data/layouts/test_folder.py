"""A folder for each class, with and without train/val/test above."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError, DataError
from vidkd.data.layouts.common import Options
from vidkd.data.layouts.own_data import read_folder
from vidkd.data.manifest import Manifest

Tree = Callable[..., Path]


def sides(manifest: Manifest) -> tuple[set[str], set[str]]:
    train, test = ({clip.path for clip in manifest.select("1", subset)} for subset in ("train", "test"))
    return train, test


def test_a_seeded_split_of_every_class(tree: Tree) -> None:
    root = tree(f"{name}/take {n}.mp4" for name in ("jump", "sit down") for n in range(10))
    manifest = read_folder(root, Options()).manifest
    train, test = sides(manifest)
    assert (manifest.classes, manifest.splits, manifest.name) == (("jump", "sit down"), ("1",), root.name)
    assert (len(train), len(test)) == (14, 6)
    assert sum(path.startswith("jump/") for path in test) == 3
    assert sides(read_folder(root, Options()).manifest) == (train, test)
    assert sides(read_folder(root, Options(seed=1)).manifest) != (train, test)
    assert len({clip.group for clip in manifest.clips}) == 20, "the same name in two classes is two groups"


def test_groups_stay_together_across_classes(tree: Tree) -> None:
    people = ["anna", "ben", "çem d'or", "dora", "eli"]
    root = tree([*(f"{name}/{who}_take{n}.avi" for name in ("jump", "run") for who in people for n in range(3)), "run/_take9.avi"])
    manifest = read_folder(root, Options(group_pattern=r"_take\d+$")).manifest
    assert {clip.group for clip in manifest.clips} == {*people, "run/_take9"}
    train, test = (({clip.group for clip in manifest.select("1", subset)}) for subset in ("train", "test"))
    assert not train & test
    broken = frozenset({"jump/anna_take0.avi"})
    assert len(read_folder(root, Options(group_pattern=r"_take\d+$", broken=broken)).manifest.clips) == 30


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("v_{c}_g{g:02d}_c{n:02d}.avi", {f"v_{c}_g{g:02d}" for c in ("jump", "run") for g in range(3)}),
        ("g{g}_c{n}.mp4", {"g0", "g1", "g2"}),
        ("abc-{g}_000010_00002{n}.mp4", {"abc-0", "abc-1", "abc-2"}),
        ("anna{g}_take {n}.mp4", {"anna0", "anna1", "anna2"}),
        ("film {g}-part{n}.mov", {"film 0", "film 1", "film 2"}),
    ],
)
def test_groups_are_inferred_from_common_names(tree: Tree, name: str, groups: set[str]) -> None:
    root = tree(f"{c}/{name.format(c=c, g=g, n=n)}" for c in ("jump", "run") for g in range(3) for n in range(2))
    reading = read_folder(root, Options())
    assert {clip.group for clip in reading.manifest.clips} == groups
    assert f"groups are inferred from the names: {len(groups)} of 12 files, as " in reading.notes[0]
    assert "--group REGEX" in reading.notes[0]


@pytest.mark.parametrize(
    ("names", "flips"), [(["turn_left", "turn_right"], False), (["Clockwise", "b"], False), (["copyright", "b"], True)]
)
def test_classes_that_name_a_direction_are_not_flipped(tree: Tree, names: list[str], flips: bool) -> None:
    assert read_folder(tree(f"{name}/{n}.avi" for name in names for n in range(2)), Options()).manifest.horizontal_flip is flips


def test_given_subsets(tree: Tree) -> None:
    no_clips = ["train/a/.hidden.avi", "train/a/3.txt", "__MACOSX/a/._1.avi", ".git/x.avi", "loose.avi"]
    root = tree(["train/a/1.avi", "train/b/1.webm", "val/a/2.avi", "test/b/sub/3.MOV", "test/a/4.avi", *no_clips])
    manifest = read_folder(root, Options()).manifest
    assert manifest.classes == ("a", "b")
    assert {clip.path: (clip.label, clip.subsets["1"]) for clip in manifest.clips} == {
        "train/a/1.avi": (0, "train"),
        "train/b/1.webm": (1, "train"),
        "val/a/2.avi": (0, "val"),
        "test/a/4.avi": (0, "test"),
        "test/b/sub/3.MOV": (1, "test"),
    }


def test_a_class_on_one_side_is_remarked_on(tree: Tree) -> None:
    assert read_folder(tree(f"both/{name}/{n}.avi" for name in "ab" for n in range(2)) / "both", Options()).notes == ()
    root = tree(["g/train/a/1.avi", "g/train/b/1.avi", "g/test/a/2.avi", "g/test/c/3.avi", "g/val/b/4.avi"]) / "g"
    notes = read_folder(root, Options()).notes
    assert [note.splitlines()[:2] for note in notes] == [
        ["warning: 1 of 3 classes have no train clip", "  classes : c"],
        ["warning: 1 of 3 classes have no test clip", "  classes : b"],
    ]
    assert notes[0].splitlines()[2:] == [f"  where   : split 1 of {root}", "  fix     : put videos of them below train/ and test/"]
    drawn = read_folder(tree(["d/a/x_1.avi", "d/a/x_2.avi", "d/b/y_1.avi", "d/b/z_1.avi"]) / "d", Options(group_pattern="_")).notes
    assert [note.splitlines()[:2] for note in drawn] == [["warning: 1 of 2 classes have no test clip", "  classes : a"]]
    assert "two groups of a class" in drawn[0]


def test_nothing_there(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no video file in"):
        read_folder(tree(["a/1.txt"]), Options(allow_missing=True))
    with pytest.raises(DataError, match="2 videos, but no folder for a class"):
        read_folder(tree(["a/1.avi", "a/2.avi"]) / "a", Options())
    with pytest.raises(DataError, match=r"found +: .*nowhere is missing"):
        read_folder(tmp_path / "nowhere", Options())


def test_a_pattern_that_is_none(tree: Tree) -> None:
    with pytest.raises(ConfigError, match=r"not a regular expression: \("):
        read_folder(tree(["a/1.avi"]), Options(group_pattern="("))
