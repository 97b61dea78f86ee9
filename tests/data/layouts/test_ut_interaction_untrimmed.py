"""Uncut sequences: a table in Excel's oldest format, written here, and generated videos."""

import functools
import itertools
import struct
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options
from vidkd.data.layouts.ut_interaction import CLASSES, read_labels, read_rows
from vidkd.data.layouts.ut_interaction import read_untrimmed as read
from vidkd.data.manifest import Manifest
from vidkd.video import write_video

LABELS = "ut-interaction_labels_110912.xls"
HEAD: list[Sequence[object]] = [["", "", "", "", "Top-Left Point"], ["sequence #", "Activity Class ID", "Starting Frame #"]]
BOX = [10, 5, 30, 40]


def write_xls(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """A single sheet of texts and numbers in the format of Excel 2.1, a plain run of records."""
    record = lambda kind, body: struct.pack("<HH", kind, len(body)) + body  # noqa: E731
    content = record(0x0009, struct.pack("<HH", 2, 0x0010))
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            place = struct.pack("<HH3x", row, column)
            if isinstance(cell, str):
                content += record(0x0004, place + bytes([len(cell)]) + cell.encode("latin-1")) if cell else b""
            else:
                content += record(0x0003, place + struct.pack("<d", cell))
    path.write_bytes(content + record(0x000A, b""))


@functools.cache
def content(frames: int, times_s: tuple[float, ...] | None) -> bytes:
    images = [np.full((32, 48, 3), k % 250, np.uint8) for k in range(frames)]
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "film.mp4", images, fps=30, times_s=times_s)
        return (Path(folder) / "film.mp4").read_bytes()


def film(path: Path, frames: int, times_s: Sequence[float] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(frames, None if times_s is None else tuple(times_s)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four sequences of set 1 with two actions each, one of set 2 without a video, and one action behind the others."""
    rows: list[Sequence[object]] = list(HEAD)
    for sequence in (1, 2, 3, 4):
        rows += [[f"seq{sequence}", sequence % 6, 10, 20, *BOX, 1.0], [f"seq{sequence}", 0, 20, 30, *BOX, -1.0]]
        film(tmp_path / "ut-interaction_set1" / f"seq{sequence}.mp4", 40)
    rows += [["seq11", 3, 5, 9, *BOX, 0], ["", "", "", ""], ["others:"], ["seq1", 3, 15, 25, *BOX]]
    write_xls(tmp_path / LABELS, rows)
    return tmp_path


def test_actions_of_uncut_sequences(root: Path) -> None:
    reading = read(root, Options())
    manifest = reading.manifest
    assert (manifest.name, manifest.classes, len(manifest.clips)) == ("ut_interaction_untrimmed", CLASSES, 8)
    assert manifest.splits == ("seq1", "seq2", "seq3", "seq4", "fold1", "fold2")
    first, second = manifest.clips[:2]
    assert (first.path, first.label, first.group) == ("ut-interaction_set1/seq1.mp4", 1, "seq1")
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == pytest.approx((10 / 30, 20 / 30, 20 / 30, 1.0), abs=1e-4)
    assert first.boxes == ((first.start_s, 10, 5, 30, 40),)
    assert {clip.group for clip in manifest.select("fold2", "test")} == {"seq3", "seq4"}
    assert {clip.group for clip in manifest.select("seq3", "train")} == {"seq1", "seq2", "seq4"}
    assert reading.notes == ("left out, under 'others:' in the labels: 1 actions that go on at the same time",)
    manifest.write(root / "m.jsonl")
    assert Manifest.read(root / "m.jsonl") == manifest


def test_times_are_those_of_the_decoded_frames(root: Path) -> None:
    """A file of variable rate: frame 10 is shown at 2 s, whatever 30 frames a second say; the last action ends with the file."""
    video = root / "ut-interaction_set1" / "seq2.mp4"
    times = [0.1 * k for k in range(10)] + [2 + 0.25 * k for k in range(20)]
    film(video, 30, times)
    clips = [clip for clip in read(root, Options()).manifest.clips if clip.group == "seq2"]
    assert [clip.start_s for clip in clips] == pytest.approx([2.0, 4.5], abs=1e-3)
    assert clips[0].end_s == pytest.approx(4.5, abs=1e-3)
    assert clips[1].end_s == pytest.approx(7.0, abs=0.05)


def test_set_2_has_splits_of_its_own(root: Path) -> None:
    for place in ("ut-interaction_set2/seq11.avi", "ut-interaction_set2/seq1.avi"):
        film(root / place, 12)
    manifest = read(root, Options()).manifest
    assert manifest.splits == ("seq1", "seq2", "seq3", "seq4", "fold1", "fold2", "seq11", "fold6")
    assert [clip.group for clip in manifest.select("fold6", "test")] == ["seq11"]
    assert manifest.select("fold6", "train") == []
    assert {clip.path for clip in manifest.clips if clip.group == "seq1"} == {"ut-interaction_set1/seq1.mp4"}


def test_a_missing_sequence(root: Path) -> None:
    (root / "ut-interaction_set1" / "seq3.mp4").unlink()
    with pytest.raises(DataError, match=r"1 of 4 videos that its labels name are missing(.|\n)*seq3"):
        read(root, Options())
    reading = read(root, Options(allow_missing=True))
    assert reading.manifest.splits == ("seq1", "seq2", "seq4", "fold1", "fold2"), "pairs stay those of the whole set"
    assert len(reading.absent) == 2


def test_an_interval_outside_its_video(root: Path) -> None:
    film(root / "ut-interaction_set1" / "seq2.mp4", 25)
    with pytest.raises(DataError, match=r"row 6: the interval lies outside the video(.|\n)*frames 20 to 30(.|\n)*seq2\.mp4, 25 frames"):
        read(root, Options())


@pytest.mark.parametrize("cells", [[6, 1, 2], [1.5, 1, 2], [1, 5, 5], [1, 5.5, 8], [1, -1, 8], [1, 5]])
def test_a_bad_row_is_named(cells: list[float]) -> None:
    with pytest.raises(DataError, match="sheet A, row 2: not an action"):
        read_rows([HEAD[1], ["seq1", *map(float, [*cells, *BOX])]], "sheet A")


@pytest.mark.data
def test_the_official_labels(real_data: Path) -> None:
    """Sixty actions a set, ten of each class, none of which overlaps another; frames as in the segmented clips' order."""
    actions, others = read_labels(real_data / "ut_interaction" / LABELS)
    assert (len(actions), others) == (120, 42)
    for low in (1, 11):
        assert Counter(action.label for action in actions if low <= action.sequence < low + 10) == dict.fromkeys(range(6), 10)
    for earlier, later in itertools.pairwise(actions):
        assert earlier.sequence != later.sequence or earlier.end_frame <= later.start_frame
    names = sorted((path.stem for path in (real_data / "ut_interaction" / "set1").glob("*.avi")), key=lambda name: int(name.split("_")[0]))
    assert [f"{number}_{one.sequence}_{one.label}" for number, one in enumerate(actions[:60])] == names
