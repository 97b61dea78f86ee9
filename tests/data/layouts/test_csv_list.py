"""A list in CSV, with and without its optional columns, and labelled intervals against a comparison of all pairs."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import SLACK_S, Options, check_overlaps, inside, overlaps
from vidkd.data.layouts.own_data import read_csv
from vidkd.data.manifest import Clip
from vidkd.video import write_video

# --- A list in CSV, with and without its optional columns ---

Tree = Callable[..., Path]


def make(tree: Tree, text: str, paths: tuple[str, ...] = ("a.avi", "b.avi")) -> Path:
    return tree(paths, {"clips.csv": text})


def film(path: Path, seconds: float) -> None:
    """A video of that length at 10 frames a second."""
    write_video(path, [np.full((32, 32, 3), 5 * k, np.uint8) for k in range(round(seconds * 10))], fps=10)


def test_all_columns(tree: Tree) -> None:
    rows = [
        "path,label,start_s,end_s,group,split",
        '"sub/a, ü.avi",jump,0.5,1.5,p1,train',
        '"sub/a, ü.avi",run,2,,p1,train',
        "b 'x'.avi,,,,,test",
    ]
    text = "\ufeff" + "\r\n".join(rows)
    root = make(tree, text, ("sub/a, ü.avi", "b 'x'.avi"))
    film(root / "sub" / "a, ü.avi", 4)
    manifest = read_csv(root, Options()).manifest
    assert (manifest.classes, manifest.splits) == (("jump", "run"), ("1",))
    read_rows = [(clip.path, clip.label, clip.start_s, clip.end_s, clip.group, clip.subsets["1"]) for clip in manifest.clips]
    assert read_rows == [
        ("sub/a, ü.avi", 0, 0.5, 1.5, "p1", "train"),
        ("sub/a, ü.avi", 1, 2.0, None, "p1", "train"),
        ("b 'x'.avi", None, 0.0, None, "b 'x'", "test"),
    ]
    assert set(manifest.sources) == {"clips.csv"}


def test_without_splits_groups_are_drawn(tree: Tree) -> None:
    paths = tuple(f"{who}_{n}.avi" for who in "abcdefghij" for n in range(2))
    root = make(tree, "label,path\n" + "".join(f"{9 + n % 2},{path}\n" for n, path in enumerate(paths)), paths)
    (root / "clips.csv").rename(root.parent / "mine.csv")
    with pytest.raises(DataError, match=r"found +: .*clips\.csv is missing"):
        read_csv(root, Options())
    manifest = read_csv(root, Options(group_pattern="_", list_file=root.parent / "mine.csv")).manifest
    assert (manifest.name, list(manifest.sources), manifest.classes) == ("mine", ["mine.csv"], ("9", "10"))
    train, test = ({clip.group for clip in manifest.select("1", subset)} for subset in ("train", "test"))
    assert (len(train), len(test)) == (7, 3)
    assert not train & test


def test_a_class_on_one_side_is_remarked_on(tree: Tree) -> None:
    root = make(tree, "path,label,split\na.avi,x,train\nb.avi,x,test\nc.avi,y,train\nd.avi,,test\n", ("a.avi", "b.avi", "c.avi", "d.avi"))
    (note,) = read_csv(root, Options()).notes
    assert note.splitlines() == [
        "warning: 1 of 2 classes have no test clip",
        "  classes : y",
        f"  where   : {root / 'clips.csv'}",
        "  fix     : give rows of them the split that they lack",
    ]


def test_missing_files(tree: Tree) -> None:
    root = make(tree, "path,label\na.avi,x\ngone.avi,x\ngone too.avi,y\n")
    with pytest.raises(DataError, match=r"2 files that .*clips\.csv names are missing(.|\n)*gone\.avi, gone too\.avi"):
        read_csv(root, Options())
    reading = read_csv(root, Options(allow_missing=True))
    assert (len(reading.manifest.clips), reading.absent, reading.manifest.classes) == (1, ("gone.avi", "gone too.avi"), ("x", "y"))
    (root / "a.avi").unlink()
    with pytest.raises(DataError, match="data set 'csv' not found"):
        read_csv(root, Options(allow_missing=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,labels\na.avi,x\n", r"clips\.csv:1: unknown column 'labels'(.|\n)*did you mean : label"),
        ("path\na.avi\n", r"clips\.csv:1: missing columns: 'label'"),
        ("", r"clips\.csv:1: missing columns: 'path', 'label'(.|\n)*an empty file"),
        ("path,label\n", "no row in"),
        ("path,label\na.avi\n", r"clips\.csv:2: not 2 values"),
        ("path,label\na.avi,x,y\n", r"clips\.csv:2: not 2 values(.|\n)*quote"),
        ("path,label\n,x\n", r"clips\.csv:2: no path"),
        ("path,label\n/abs/a.avi,x\n", r"clips\.csv:2: the path leaves the data root"),
        ("path,label\nb.avi,x\n../a.avi,x\n", r"clips\.csv:3: the path leaves the data root"),
        ("path,label,split\na.avi,x,dev\n", r"clips\.csv:2: split 'dev' is not one of train, test, val"),
        ("path,label,start_s\na.avi,x,soon\n", r"clips\.csv:2: start_s and end_s are numbers(.|\n)*'soon'"),
        ("path,label,end_s\na.avi,x,nan\n", r"clips\.csv:2: start_s and end_s are numbers of seconds(.|\n)*not finite"),
        ("path,label,start_s,end_s\na.avi,x,2,1\n", r"clips\.csv:2: end_s 1 is not after start_s 2"),
        ('path,label\n"a.avi,x\n', "not a CSV file"),
    ],
)
def test_a_bad_row_is_named(tree: Tree, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_csv(make(tree, text), Options())


INTERVALS = "path,label,start_s,end_s,split\n"


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ("1,2.2", r"clips\.csv:3: the interval lies outside the video(.|\n)*1 s to 2\.2 s(.|\n)*b\.avi, 2\.00 s long"),
        ("2,", "lies outside the video(.|\n)*2 s to the end"),
    ],
)
def test_an_interval_outside_its_video(tree: Tree, interval: str, message: str) -> None:
    root = make(tree, f"{INTERVALS}a.avi,x,,,train\nb.avi,y,{interval},test\n")
    film(root / "b.avi", 2)
    with pytest.raises(DataError, match=message):
        read_csv(root, Options())


def test_overlapping_intervals_name_both_rows_or_are_counted(tree: Tree) -> None:
    root = make(tree, f"{INTERVALS}a.avi,x,0.5,2,train\nb.avi,x,0,2.05,test\na.avi,x,1.5,3,train\na.avi,x,1.9,,train\n")
    film(root / "a.avi", 4)
    film(root / "b.avi", 2)
    with pytest.raises(DataError, match=r"clips\.csv:4: overlaps the interval of .*clips\.csv:2") as error:
        read_csv(root, Options())
    assert error.value.lines["intervals"] == "0.5 s to 2 s and 1.5 s to 3 s"
    assert error.value.lines["found"] == "2 such rows"
    reading = read_csv(root, Options(allow_overlap=True))
    assert reading.notes == ("2 of 4 intervals begin before an earlier one of their video has ended",)
    assert reading.manifest.clips[1].end_s == 2, "one that is written a little too long ends with its video"


def test_a_file_is_in_one_group(tree: Tree) -> None:
    root = make(tree, "path,label,group\na.avi,x,p1\nb.avi,y,p2\na.avi,y,p3\n")
    with pytest.raises(DataError, match=r"clips\.csv:4: 'a\.avi' is in group 'p3', in .*csv:2 in group 'p1'"):
        read_csv(root, Options(allow_overlap=True))


def test_a_group_on_both_sides_of_a_given_split_is_remarked_on(tree: Tree) -> None:
    text = "path,label,group,split\na.avi,x,p1,train\nb.avi,x,p1,test\nc.avi,x,p2,train\nd.avi,x,p3,test\n"
    notes = read_csv(make(tree, text, ("a.avi", "b.avi", "c.avi", "d.avi")), Options()).notes
    assert [note.splitlines()[:2] for note in notes] == [
        ["warning: 1 groups are in training and in another subset: a test on them overstates the model", "  groups : p1"]
    ]


# --- Intervals against an explicit comparison of all pairs ---


def clip(path: str, start_s: float, end_s: float | None) -> Clip:
    return Clip(path=path, label=0, group="g", subsets={}, start_s=start_s, end_s=end_s)


@pytest.mark.parametrize("seed", range(20))
def test_every_clip_that_begins_inside_an_earlier_one_is_found(seed: int) -> None:
    draw = random.Random(seed)
    clips = []
    for _ in range(30):
        start = draw.randrange(0, 60)
        clips.append(clip(draw.choice("ab"), start, draw.choice([None, *[start + draw.randrange(1, 4)] * 9])))
    order = sorted(range(30), key=lambda n: (clips[n].start_s, n))
    ends = [float("inf") if one.end_s is None else one.end_s for one in clips]
    expected = {
        later
        for place, later in enumerate(order)
        if any(clips[earlier].path == clips[later].path and clips[later].start_s < ends[earlier] for earlier in order[:place])
    }
    found = overlaps(clips)
    assert {later for _, later in found} == expected
    for earlier, later in found:
        assert clips[earlier].path == clips[later].path
        assert clips[earlier].start_s <= clips[later].start_s < ends[earlier]


def test_touching_intervals_and_other_files_do_not_overlap() -> None:
    clips = [clip("a", 0, 2), clip("a", 2, 3), clip("b", 1, 3)]
    assert check_overlaps(clips, str, allowed=False) == ()


@pytest.mark.parametrize(
    ("start_s", "end_s", "kept"), [(0, 10, 10), (0, None, None), (9.9, 10 + SLACK_S, 10), (3, 4, 4), (0, 10.11, "bad"), (10, None, "bad")]
)
def test_inside(start_s: float, end_s: float | None, kept: object) -> None:
    if kept == "bad":
        with pytest.raises(DataError, match=r"^here: the interval lies outside the video"):
            inside(start_s, end_s, 10, "here", "a.avi")
    else:
        assert inside(start_s, end_s, 10, "here", "a.avi") == kept
