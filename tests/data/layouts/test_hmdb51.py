"""HMDB51 as its archives unpack and in the tidy form, against the official lists where they are at hand."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options
from vidkd.data.layouts.hmdb51 import read

Tree = Callable[..., Path]
SPLITS = "testTrainMulti_7030_splits"
# the name of the class stands twice in one name; names hold blanks, brackets and marks
CLAP = ["boom_clap_(try)!_clap_u_nm_np1_fr_bad_0", "A Film & more_clap_u_nm_np1_fr_med_1", "A Film & more_clap_f_cm_np2_le_goo_2"]
WALK = ["A Film & more_walk_f_cm_np1_ri_med_0", "other#1_walk_u_nm_np1_fr_bad_0", "third_walk_u_nm_np1_fr_bad_0"]


def texts(folder: str = SPLITS) -> dict[str, str]:
    """clap: 1 train, 2 test; walk: film train, other test, third unused. As in the official files, a blank ends each line."""
    return {
        f"{folder}/clap_test_split1.txt": f"{CLAP[0]}.avi 1 \n{CLAP[1]}.avi 2 \n{CLAP[2]}.avi 2 \n",
        f"{folder}/walk_test_split1.txt": f"{WALK[0]}.avi 1 \n{WALK[1]}.avi 2 \n{WALK[2]}.avi 0 \n",
    }


def paths(folder: str = "", suffix: str = ".avi") -> list[str]:
    return [f"{folder}{name}/{stem}{suffix}" for name, stems in (("clap", CLAP), ("walk", WALK)) for stem in stems]


@pytest.mark.parametrize(
    ("folder", "lists", "suffix"), [("", SPLITS, ".avi"), ("hmdb51_org/", SPLITS, ".avi"), ("videos/", "splits", ".mp4")]
)
def test_both_forms_and_any_container(tree: Tree, folder: str, lists: str, suffix: str) -> None:
    manifest = read(tree(paths(folder, suffix), texts(lists)), Options()).manifest
    assert (manifest.classes, manifest.splits, len(manifest.clips)) == (("clap", "walk"), ("1",), 6)
    assert [clip.path for clip in manifest.clips] == paths(folder, suffix)
    assert [clip.label for clip in manifest.clips] == [0, 0, 0, 1, 1, 1]
    film = "A Film & more"
    assert [clip.group for clip in manifest.clips] == ["boom_clap_(try)!", film, film, film, "other#1", "third"]
    assert [clip.subsets.get("1") for clip in manifest.clips] == ["train", "test", "test", "train", "test", None]


def test_no_lists(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"<class>_test_split1\.txt is missing in splits/"):
        read(tree(paths("videos/"), {"splits/readme.txt": "x"}), Options())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x_clap_y.avi 3", "neither train nor test"),
        ("x_clap_y.avi", "neither train nor test"),
        (f"{CLAP[0]}.avi 2", "is listed before, as train"),
    ],
)
def test_a_bad_line_is_named(tree: Tree, line: str, message: str) -> None:
    root = tree(paths(), texts())
    with (root / SPLITS / "clap_test_split1.txt").open("a") as out:
        out.write(line)
    with pytest.raises(DataError, match=rf"clap_test_split1\.txt:4: .*{message}"):
        read(root, Options())


@pytest.mark.data
def test_the_official_lists_whole(real_data: Path, tree: Tree) -> None:
    """All 153 files: 70 train and 30 test of every class in every split, and within a class no source on both sides."""
    official = {path.name: path.read_text() for path in (real_data / "splits" / "hmdb51").glob("*.txt")}
    assert len(official) == 153
    clips = [
        f"{name.removesuffix('_test_split1.txt')}/{line.split()[0]}"
        for name, text in official.items()
        if name.endswith("split1.txt")
        for line in text.splitlines()
    ]
    reading = read(tree(clips, {f"{SPLITS}/{name}": text for name, text in official.items()}), Options())
    manifest = reading.manifest
    assert (len(manifest.clips), len(manifest.classes), manifest.splits, reading.notes) == (6766, 51, ("1", "2", "3"), ())
    for split in manifest.splits:
        train, test = (manifest.select(split, subset) for subset in ("train", "test"))
        assert Counter(clip.label for clip in train) == dict.fromkeys(range(51), 70)
        assert Counter(clip.label for clip in test) == dict.fromkeys(range(51), 30)
        assert not {(clip.label, clip.group) for clip in train} & {(clip.label, clip.group) for clip in test}
        assert {clip.group for clip in train} & {clip.group for clip in test}, "films with several classes are on both sides, officially"
