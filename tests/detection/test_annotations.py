"""Frames with boxes and their manifest: what is written is read, everything else is refused with file and line."""

import json
from pathlib import Path

import numpy as np
import pytest
from box_samples import frame_of, manifest_of

from vidkd.base.errors import ConfigError, DataError
from vidkd.detection.annotations import ANY_CLASS, BoxManifest, LabelledFrame, box_problem

BOX = (1, 2, 3, 4)


def some(root: Path) -> BoxManifest:
    return manifest_of(
        frame_of([(0.1, 1 / 3, 50, 79.9), (-5, -5, 110, 90)], [1, 0], index=4, time_s=0.16, track_ids=[7, -1], subset="train"),
        frame_of([BOX, BOX], [0, ANY_CLASS], ignore=[False, True], index=5, subset="val", complete=False),
        frame_of([], path="img/b.jpg", index=None, subset="train"),
        root=root,
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    some(tmp_path).write(tmp_path / "boxes.jsonl")
    read = BoxManifest.read(tmp_path / "boxes.jsonl")
    assert (read.name, read.classes, read.root) == ("pets", ("cat", "dog"), tmp_path)
    for before, after in zip(some(tmp_path).frames, read.frames, strict=True):
        for name in ("path", "frame_index", "time_s", "width", "height", "group", "subset", "complete"):
            assert getattr(before, name) == getattr(after, name)
        for name in ("boxes", "labels", "ignore"):
            assert np.array_equal(getattr(before, name), getattr(after, name))
            assert getattr(after, name).dtype == getattr(before, name).dtype
    assert read.frames[0].track_ids.tolist() == [7, -1]
    assert read.frames[1].track_ids is None
    assert read.frames[2].key == ("img/b.jpg", None)
    assert len(read.frames[2]) == 0  # annotated: nothing there


def test_numbers_are_short(tmp_path: Path) -> None:
    some(tmp_path).write(tmp_path / "boxes.jsonl")
    assert json.loads((tmp_path / "boxes.jsonl").read_text().split("\n")[1])["boxes"][0] == [0.1, 0.33333334, 50.0, 79.9]


def test_the_root(tmp_path: Path) -> None:
    data, lists = tmp_path / "data", tmp_path / "lists"
    for folder in (data / "inside", lists, tmp_path / "other"):
        folder.mkdir(parents=True)
    some(data).write(data / "inside" / "boxes.jsonl")
    assert BoxManifest.read(data / "inside" / "boxes.jsonl").root == data
    data.rename(tmp_path / "moved")
    assert BoxManifest.read(tmp_path / "moved" / "inside" / "boxes.jsonl").root == tmp_path / "moved"
    some(tmp_path / "other").write(lists / "boxes.jsonl")
    assert BoxManifest.read(lists / "boxes.jsonl").root == tmp_path / "other"
    assert BoxManifest.read(lists / "boxes.jsonl", tmp_path / "moved").root == tmp_path / "moved"
    (tmp_path / "other").rmdir()
    with pytest.raises(DataError, match=r"data root not found(.|\n)*recorded in .*boxes.jsonl:1"):
        BoxManifest.read(lists / "boxes.jsonl")
    with pytest.raises(DataError, match=r"data root not found: nowhere(.|\n)*given"):
        BoxManifest.read(lists / "boxes.jsonl", "nowhere")


def test_select_and_thin(tmp_path: Path) -> None:
    manifest = some(tmp_path)
    assert [frame.path for frame in manifest.select("train").frames] == ["a.mp4", "img/b.jpg"]
    with pytest.raises(ConfigError, match="unknown subset 'trian'"):
        manifest.select("trian")
    with pytest.raises(DataError, match=r"no frame in subset 'test'(.|\n)*train, val"):
        manifest.select("test")
    assert [frame.key for frame in manifest.thinned(2).frames] == [("a.mp4", 4), ("img/b.jpg", None)]
    with pytest.raises(ValueError, match="every must be at least 1"):
        manifest.thinned(0)


def header(**over: object) -> str:
    return json.dumps({"schema_version": 1, "kind": "vidkd-boxes", "name": "pets", "classes": ["cat", "dog"], "frames": 1, **over})


def row(**over: object) -> str:
    values = {"path": "a.jpg", "width": 100, "height": 80, "boxes": [list(BOX)], "labels": [0], "group": "a", **over}
    return json.dumps({key: value for key, value in values.items() if value is not None})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([header(kind="vidkd-manifest"), row()], ":1: not a manifest"),
        ([header(schema_version=2), row()], ":1: schema_version 2 is not 1"),
        ([header(frames=2), row()], "not a whole manifest.*\n.*2 announced, 1 found"),
        ([header(classes="cat"), row()], 'classes must be a list of texts, found "cat"'),
        ([header(classes=["cat", "cat"]), row()], ":1: class 'cat' is named twice"),
        ([header(klasses=[]), row()], "unknown key 'klasses'(.|\n)*classes"),
        (
            [json.dumps({"schema_version": 1, "kind": "vidkd-boxes", "name": "x", "classes": []})],
            "not a whole manifest(.|\n)*None announced",
        ),
        ([header(), "{"], "not JSON: .*:2"),
        ([header(), "[]"], ":2: not a JSON object"),
        ([header(), row(labls=[0])], "unknown key 'labls'(.|\n)*labels"),
        ([header(), row(labels=None)], "missing: labels(.|\n)*:2"),
        ([header(), row(boxes=[[1, 2, 3]])], r"boxes must be a list of lists of 4 numbers, found \[1, 2, 3\] in .0.(.|\n)*:2"),
        ([header(), row(boxes=[[1, 2, 3, True]])], "boxes must be a list of lists of 4 numbers, found true(.|\n)*:2"),
        ([header(), row(labels=[0.5])], "labels must be a list of whole numbers"),
        ([header(), row(ignore=[1])], "ignore must be a list of true or false"),
        ([header(), row(frame_index=-1)], ":2: frame_index -1 is negative"),
        ([header(), row(time_s="0")], "time_s must be a number, or null"),
        ([header(), row(subset="dev")], ":2: unknown subset 'dev'(.|\n)*train"),
        ([header(), row(labels=[0, 1])], r":2: boxes, labels, ignore and track_ids differ in number: \[1, 2\]"),
        ([header(), row(labels=[2])], ":2: label 2 is out of range"),
        ([header(), row(labels=[-1])], ":2: label -1 is out of range(.|\n)*only for an ignored region"),
        ([header(), row(path="../a.jpg")], ":2: the path leaves the data root"),
        ([header(), row(path="/a.jpg")], ":2: the path leaves the data root"),
        ([header(), row(width=0)], ":2: a frame of 0 x 80 pixels"),
        ([header(), row(boxes=[[3, 2, 1, 4]])], r":2: box \(3, 2, 1, 4\) is empty"),
        ([header(), row(boxes=[[100, 2, 120, 4]])], r":2: box \(100, 2, 120, 4\) is outside the frame"),
        ([header(frames=2), row(), row()], ":3: the same frame as .*:2"),
    ],
)
def test_what_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "boxes.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message):
        BoxManifest.read(path)


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "boxes.jsonl"
    with pytest.raises(DataError, match="manifest not found"):
        BoxManifest.read(path)
    with pytest.raises(DataError, match="manifest is a folder"):
        BoxManifest.read(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not a manifest"):
        BoxManifest.read(path)
    path.write_text("")
    with pytest.raises(DataError, match=r"not a whole manifest(.|\n)*empty file"):
        BoxManifest.read(path)
    path.write_text(header() + "\n" + row())
    with pytest.raises(DataError, match=r"not a whole manifest(.|\n)*does not end"):
        BoxManifest.read(path)


def test_nothing_is_written_that_would_not_be_read(tmp_path: Path) -> None:
    bad = manifest_of(frame_of([]), frame_of([BOX], [5], index=1), root=tmp_path)
    with pytest.raises(DataError, match="manifest 'pets', frame 2: label 5 is out of range"):
        bad.write(tmp_path / "boxes.jsonl")
    with pytest.raises(DataError, match="frame 1: unknown subset 'dev'"):
        manifest_of(frame_of([], subset="dev"), root=tmp_path).write(tmp_path / "boxes.jsonl")
    with pytest.raises(DataError, match="frame 1: frame_index -1 is negative"):
        manifest_of(frame_of([], index=-1), root=tmp_path).write(tmp_path / "boxes.jsonl")
    assert not list(tmp_path.iterdir())


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"differ in number: \[1, 2\]"):
        frame_of([BOX], [0, 1])
    with pytest.raises(ValueError, match=r"differ in number: \[1, 2\]"):
        frame_of([BOX], track_ids=[1, 2])
    assert isinstance(frame_of([BOX], [1]), LabelledFrame)


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((0, 0, 100, 80), None),
        ((-9, -9, 1, 1), None),
        ((-9, 0, 0, 9), "outside the frame"),
        ((0, 80, 9, 90), "outside the frame"),
        ((5, 5, 5, 9), "empty"),
        ((0, 0, float("nan"), 1), "not finite"),
    ],
)
def test_box_problem(box: tuple[float, ...], problem: str | None) -> None:
    assert box_problem(box, 100, 80) == problem
