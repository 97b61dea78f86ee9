"""The manifest survives writing and reading, and every way of being wrong is named with its line."""

import dataclasses
import json
from pathlib import Path

import pytest

from vidkd.base.errors import DataError
from vidkd.data.manifest import Clip, Manifest, is_manifest

NASTY = ["videos/a b/clip.avi", "vidéos/跳/clip ünï.mp4", "q'uote\"s/new\nline\u2028.avi", "back\\slash#(1)&!.webm"]
FULL = Clip(
    path=NASTY[2],
    label=1,
    group="g 'ü'",
    subsets={"1": "train", "2": "test"},
    start_s=0.5,
    end_s=2.25,
    boxes=((0.5, 1, 2, 3.5, 4), (0.54, 1, 2, 3.5, 4)),
    onset_s=1.0,
    targets={"noun": 2, "verb": 0},
    name="P01_1 'ü'",
    tags=("unseen", "tail"),
    fps=59.94,
)
TARGETS = {"verb": ("take", "put"), "noun": ("tap", "a b", "c")}


def manifest(root: Path, *clips: Clip, **changes: object) -> Manifest:
    base = Manifest(
        name="toy", root=root, classes=("a", "b"), splits=("1", "2"), clips=clips, sources={"splits/x.txt": "ab" * 32}, targets=TARGETS
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def clip(path: str = "a.avi", **changes: object) -> Clip:
    return dataclasses.replace(Clip(path=path, label=0, group="g", subsets={"1": "train"}), **changes)  # type: ignore[arg-type]


def test_everything_survives_writing_and_reading(tmp_path: Path) -> None:
    clips = [*map(clip, NASTY[:2]), FULL, clip(NASTY[3], label=None, subsets={})]
    written = manifest(tmp_path, *clips, horizontal_flip=False)
    written.write(tmp_path / "manifest.jsonl")
    assert Manifest.read(tmp_path / "manifest.jsonl") == written
    assert is_manifest(tmp_path / "manifest.jsonl")
    assert len((tmp_path / "manifest.jsonl").read_bytes().split(b"\n")) == 1 + len(clips) + 1


def test_a_manifest_in_its_root_moves_with_it(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for place in ("manifest.jsonl", "lists/deep/m.jsonl"):
        manifest(root, clip()).write(root / place)
    root.rename(tmp_path / "moved")
    for place in ("manifest.jsonl", "lists/deep/m.jsonl"):
        assert Manifest.read(tmp_path / "moved" / place).root == tmp_path / "moved"


def test_a_manifest_elsewhere_finds_its_root_and_takes_another(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "copy").mkdir()
    manifest(tmp_path / "data", clip()).write(tmp_path / "out" / "m.jsonl")
    (tmp_path / "out").rename(tmp_path / "renamed")
    assert Manifest.read(tmp_path / "renamed" / "m.jsonl").root == tmp_path / "data"
    assert Manifest.read(tmp_path / "renamed" / "m.jsonl", root=tmp_path / "copy").root == tmp_path / "copy"


def test_a_root_that_is_gone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    manifest(tmp_path / "data", clip()).write(tmp_path / "m.jsonl")
    (tmp_path / "data").rmdir()
    with pytest.raises(DataError, match=r"data root not found: .*data\n.*recorded in .*m\.jsonl:1\n.*data\.root"):
        Manifest.read(tmp_path / "m.jsonl")
    with pytest.raises(DataError, match=r"data root not found: .*nowhere\n.*given"):
        Manifest.read(tmp_path / "m.jsonl", root=tmp_path / "nowhere")


HEADER = {
    "schema_version": 1,
    "kind": "vidkd-manifest",
    "name": "toy",
    "classes": ["a", "b"],
    "splits": ["1"],
    "horizontal_flip": True,
    "sources": {},
}
ROW = {"path": "a.avi", "label": 0, "group": "g", "subsets": {"1": "train"}}


def read_lines(folder: Path, *rows: object) -> Manifest:
    if isinstance(rows[0], dict) and "kind" in rows[0]:
        rows = ({"clips": len(rows) - 1, **rows[0]}, *rows[1:])
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    (folder / "m.jsonl").write_text(text, encoding="utf-8")
    return Manifest.read(folder / "m.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ROW, "lable": 1}, r"unknown key 'lable'(.|\n)*did you mean : label"),
        ({k: v for k, v in ROW.items() if k != "group"}, "missing: group"),
        ({**ROW, "path": 3}, "path must be a text, found 3"),
        ({**ROW, "path": ""}, "'path' is empty"),
        ({**ROW, "label": "0"}, 'label must be a whole number, or null, found "0"'),
        ({**ROW, "label": True}, "label must be a whole number, or null, found true"),
        ({**ROW, "label": 0.0}, "label must be a whole number"),
        ({**ROW, "label": 2}, r"label 2 is out of range(.|\n)*use 0 to 1 \(2 classes\)"),
        ({**ROW, "label": -1}, "label -1 is out of range"),
        ({**ROW, "subsets": {"3": "train"}}, r"unknown split '3'(.|\n)*use one of 1"),
        ({**ROW, "subsets": {"1": "dev"}}, r"unknown subset 'dev' of split '1'(.|\n)*train, test, val"),
        ({**ROW, "subsets": ["1"]}, "subsets must be a mapping"),
        ({**ROW, "start_s": -0.5}, "start_s -0.5 is negative"),
        ({**ROW, "start_s": None}, "start_s must be a number, found null"),
        ({**ROW, "end_s": float("nan")}, "end_s must be a finite number"),
        ({**ROW, "start_s": 2, "end_s": 1.5}, "end_s 1.5 is not after start_s 2"),
        ({**ROW, "end_s": 0}, "end_s 0 is not after start_s 0"),
        ({**ROW, "end_s": 2, "onset_s": 3}, "onset_s 3 lies outside"),
        ({**ROW, "boxes": [[0, 1, 2, 3]]}, r"boxes must be a list of lists of 5 numbers, found \[0, 1, 2, 3\] in \[0\]"),
        ({**ROW, "boxes": [[0, 5, 2, 3, 4]]}, r"box \(5, 2, 3, 4\) is empty"),
        ({**ROW, "path": "/etc/a.avi"}, "the path leaves the data root"),
        ({**ROW, "path": "x/../../a.avi"}, "the path leaves the data root"),
        ({**ROW, "targets": {"verb": 0}}, r"unknown target 'verb'(.|\n)*none declared"),
        ({**ROW, "targets": {"verb": True}}, r"targets must be a mapping of keys to whole numbers"),
        ({**ROW, "targets": [0]}, "targets must be a mapping"),
        ({**ROW, "name": ""}, "'name' is empty"),
        ({**ROW, "tags": "tail"}, "tags must be a list"),
        ({**ROW, "fps": 0}, "fps 0 is not positive"),
        ({**ROW, "fps": "30"}, "fps must be a number, or null"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("", "not JSON"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DataError, match=rf"m\.jsonl:3: {message}|{message}(.|\n)*m\.jsonl:3"):
        read_lines(tmp_path, HEADER, {**ROW, "path": "fine.avi"}, row)


def test_the_same_interval_twice_names_both_lines(tmp_path: Path) -> None:
    other_interval = {**ROW, "start_s": 1.0, "end_s": 2.0}
    assert len(read_lines(tmp_path, HEADER, ROW, other_interval).clips) == 2
    with pytest.raises(DataError, match=r"m\.jsonl:4: the same interval of the same file as .*m\.jsonl:2"):
        read_lines(tmp_path, HEADER, ROW, other_interval, {**ROW, "label": 1})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({**HEADER, "kind": "coco"}, "not a manifest"),
        (ROW, "not a manifest"),
        ({**HEADER, "schema_version": 2}, "schema_version 2 is not 1"),
        ({**HEADER, "flip": True}, r"unknown key 'flip'"),
        ({k: v for k, v in HEADER.items() if k != "horizontal_flip"}, "missing: horizontal_flip"),
        ({**HEADER, "classes": "ab"}, "classes must be a list"),
        ({**HEADER, "classes": ["a", "a"]}, "class 'a' is named twice"),
        ({**HEADER, "splits": ["1", "1"]}, "split '1' is named twice"),
        ({**HEADER, "root": 3}, "root must be a text, or null"),
        ({**HEADER, "targets": {"verb": "ab"}}, r"targets must be a mapping of keys to lists of texts"),
        ({**HEADER, "targets": {"verb": []}}, "verb has no classes"),
        ({**HEADER, "targets": {"verb": ["a", "a"]}}, "verb 'a' is named twice"),
    ],
)
def test_a_bad_header_is_named(tmp_path: Path, header: object, message: str) -> None:
    with pytest.raises(DataError, match=rf"m\.jsonl:1: {message}|{message}(.|\n)*m\.jsonl:1"):
        read_lines(tmp_path, header, ROW)


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest not found: .*gone\.jsonl(.|\n)*prepare_data"):
        Manifest.read(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match=r"not a manifest(.|\n)*directory"):
        Manifest.read(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match=r"not a whole manifest(.|\n)*empty file"):
        Manifest.read(tmp_path / "empty.jsonl")
    (tmp_path / "video.avi").write_bytes(b"RIFF\xff\xfe\x00")
    with pytest.raises(DataError, match=r"not a manifest(.|\n)*utf-8"):
        Manifest.read(tmp_path / "video.avi")
    assert not is_manifest(tmp_path / "video.avi")


def test_a_torn_manifest_is_refused(tmp_path: Path) -> None:
    """A copy that was cut must not train on fewer clips without a word, even if it was cut at the end of a row."""
    manifest(tmp_path, clip("a"), clip("b")).write(tmp_path / "m.jsonl")
    whole = (tmp_path / "m.jsonl").read_bytes()
    (tmp_path / "m.jsonl").write_bytes(whole[:-1])
    with pytest.raises(DataError, match="not a whole manifest"):
        Manifest.read(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_bytes(whole[: whole[:-1].rindex(b"\n") + 1])
    with pytest.raises(DataError, match=r"not a whole manifest(.|\n)*clips +: 2 announced, 1 found"):
        Manifest.read(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        (json.dumps(ROW).replace("0", "9" * 5000, 1), "4300"),
        (json.dumps({**ROW, "path": "a\ud800.avi"}), "surrogates"),
        (json.dumps({**ROW, "boxes": None}).replace("null", "[" * 900 + "]" * 900), None),
    ],
)
def test_rows_that_would_be_a_traceback(tmp_path: Path, row: str, reason: str | None) -> None:
    with pytest.raises(DataError, match=r"m\.jsonl:2") as caught:
        read_lines(tmp_path, HEADER, row)
    assert reason is None or reason in caught.value.lines["reason"]


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    out = tmp_path / "m.jsonl"
    with pytest.raises(DataError, match="manifest 'toy', clip 2: label 7 is out of range"):
        manifest(tmp_path, clip("a"), clip("b", label=7)).write(out)
    with pytest.raises(DataError, match=r"not valid UTF-8(.|\n)*rename the file"):
        manifest(tmp_path, clip("bad\udcff.avi")).write(out)
    assert not out.exists()
    assert list(tmp_path.iterdir()) == []
