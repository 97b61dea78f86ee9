"""Which files are videos, and which of them hold the same."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidkd.base.errors import VideoError
from vidkd.video.files import content_of, copies_among, is_video_file, video_files


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"one")
    (tmp_path / "b.mp4").write_bytes(b"one")
    assert content_of(tmp_path / "a.mp4") == content_of(str(tmp_path / "b.mp4")) == hashlib.sha256(b"one").hexdigest()[:16]
    (tmp_path / "a.mp4").write_bytes(b"two, written later")
    assert content_of(tmp_path / "a.mp4") == hashlib.sha256(b"two, written later").hexdigest()[:16]
    with pytest.raises(OSError, match=r"c\.mp4"):
        content_of(tmp_path / "c.mp4")


def test_a_sequence_is_its_images_by_whatever_name_it_goes(tmp_path: Path) -> None:
    for folder, last in (("one", 9), ("same", 9), ("other", 8)):
        (tmp_path / folder).mkdir()
        for number, grey in enumerate((3, last)):
            cv2.imwrite(str(tmp_path / folder / f"{number:03d}.png"), np.full((8, 8, 3), grey, np.uint8))
    one = content_of(tmp_path / "one")
    assert content_of(tmp_path / "same") == content_of(tmp_path / "one" / "%03d.png") == content_of(str(tmp_path / "one" / "*.png")) == one
    assert content_of(tmp_path / "other") != one
    with pytest.raises(VideoError):
        content_of(str(tmp_path / "one" / "*.jpg"))


def test_copies_are_known_by_what_they_hold(tmp_path: Path) -> None:
    for name, content in {"a.mp4": b"one", "copy of a.mp4": b"one", "b.mp4": b"two", "longer.mp4": b"three"}.items():
        (tmp_path / name).write_bytes(content)
    for folder, images in {"x": [b"1", b"2"], "y": [b"1", b"2"], "z": [b"2", b"1"], "empty": []}.items():
        (tmp_path / folder).mkdir()
        for number, content in enumerate(images):
            (tmp_path / folder / f"{folder}{number}.png").write_bytes(content)
    every = {path.name: path for path in [*tmp_path.iterdir(), tmp_path / "gone.mp4"]}
    judged = {tmp_path / "a.mp4", tmp_path / "x", tmp_path / "empty", tmp_path / "gone.mp4"}
    assert set(copies_among(every, judged)) == {"a.mp4", "copy of a.mp4", "x", "y", "empty", "gone.mp4"}
    assert copies_among({"z": tmp_path / "z", "b": tmp_path / "b.mp4"}, judged) == []


@pytest.mark.parametrize(
    ("name", "expected"), [("a.avi", True), ("a.MP4", True), (".a.avi", False), ("a.flow.json", False), ("avi", False), ("a.png", False)]
)
def test_a_video_is_known_by_its_name(name: str, expected: bool) -> None:
    assert is_video_file(Path("folder", name)) is expected


def test_video_files_of_a_folder_and_below(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.AVI", "note.txt", "._a.avi", "sub/deep/d.webm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    assert [path.name for path in video_files(tmp_path)] == ["a.AVI", "b.mp4"]
    assert [path.name for path in video_files(tmp_path, deep=True)] == ["a.AVI", "b.mp4", "d.webm"]
    assert video_files(tmp_path / "none") == []
