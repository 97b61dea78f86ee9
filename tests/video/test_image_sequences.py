"""Folders, globs and numbered patterns of images through open_video."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numbered_videos import numbered_image, numbers_of

from vidkd.base.errors import VideoError
from vidkd.video import open_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """img_1.png to img_12.png without leading zeros, carrying 1 to 12, and a file that is no image."""
    for number in range(1, 13):
        cv2.imwrite(str(tmp_path / f"img_{number}.png"), numbered_image(number)[:, :, ::-1])
    (tmp_path / "notes.txt").write_text("not a frame")
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "img_*.png", "img_%d.png"])
def test_frames_in_the_order_of_their_numbers(folder: Path, pattern: str) -> None:
    with open_video(folder / pattern, sequence_fps=10) as video:
        images = video.frames_at_indices(range(len(video)))
        assert numbers_of(images) == list(range(1, 13))
        np.testing.assert_array_equal(images[3], numbered_image(4))  # PNG: RGB order and values exact
        assert numbers_of(video.frames_at_times([0.0, 0.19, 0.2, 1.1999])) == [1, 2, 3, 12]
        assert [(frame.index, frame.time_s) for frame in video.stream(10)] == [(10, 1.0), (11, 1.1)]
        info = video.info
        assert (info.backend, info.codec, info.frame_count, info.duration_s, info.average_fps) == ("images", "png", 12, 1.2, 10)
    with open_video(folder / pattern, short_side=32) as video:
        assert video.frames_at_indices([0]).shape == (1, 32, 48, 3)


def test_padded_numbers_that_start_late(tmp_path: Path) -> None:
    for number in (98, 99, 100):
        cv2.imwrite(str(tmp_path / f"{number:05d}.png"), numbered_image(number)[:, :, ::-1])
    with open_video(tmp_path / "%05d.png") as video:
        assert numbers_of(video.frames_at_indices(range(3))) == [98, 99, 100]
        assert video.timestamps_s.tolist() == [0, 1 / 25, 2 / 25]


@pytest.mark.parametrize("pattern", ["", "img_%d.png"])
@pytest.mark.parametrize(("gone", "missing"), [([5], "5"), ([3, 5, 6, 7, 9], "3, 5 to 7, 9")])
def test_a_missing_number_is_an_error_that_names_it(folder: Path, pattern: str, gone: list[int], missing: str) -> None:
    for number in (1, 12):  # a run may begin and end anywhere
        (folder / f"img_{number}.png").unlink()
    with open_video(folder / pattern) as video:
        assert len(video) == 10
    for number in gone:
        (folder / f"img_{number}.png").unlink()
    with pytest.raises(VideoError, match=f"images 2 to 11 lack {len(gone)} in") as error:
        open_video(folder / pattern)
    assert (error.value.lines["missing"], error.value.lines["first"]) == (missing, f"img_{gone[0]}.png")
    with open_video(folder / "*.png") as video:
        assert len(video) == 10 - len(gone), "a glob takes what is there"


def test_many_gaps_are_counted(tmp_path: Path) -> None:
    for number in range(0, 40, 5):
        (tmp_path / f"f{number:03d}.jpg").touch()
    with pytest.raises(VideoError, match="images 0 to 35 lack 28") as error:
        open_video(tmp_path)
    assert error.value.lines["missing"] == "1 to 4, 6 to 9, 11 to 14, 16 to 19, 21 to 24 and 2 more gaps"


def test_names_that_are_not_numbered_alike_have_no_gaps(tmp_path: Path) -> None:
    for number, name in enumerate(("a_7.png", "b_2.png", "b_10.png", "b_10_x.png", "b_010.png", "c.png")):
        cv2.imwrite(str(tmp_path / name), numbered_image(number)[:, :, ::-1])
    (tmp_path / "._a_7.png").write_bytes(b"what macOS leaves in archives")
    with open_video(tmp_path) as video:
        assert len(video) == 6
        assert numbers_of(video.frames_at_indices(range(2))) == [0, 1]


def test_a_listing_is_remembered_until_the_folder_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    scandir = os.scandir
    monkeypatch.setattr("vidkd.video.image_sequence.os.scandir", lambda path: calls.append(path) or scandir(path))
    os.utime(folder, (1, 1))
    for _ in range(3):
        open_video(folder).close()
    assert len(calls) == 1
    (folder / "img_13.png").write_bytes((folder / "img_12.png").read_bytes())
    for count in (2, 3):  # a folder that was changed just now may change again unseen
        with open_video(folder) as video:
            assert (len(video), len(calls)) == (13, count)


def test_images_that_are_none_or_of_another_size_are_errors_when_they_are_read(folder: Path) -> None:
    cv2.imwrite(str(folder / "img_7.png"), numbered_image(7, 32, 48))
    (folder / "img_9.png").write_bytes(b"no image")
    (folder / "img_10.png").write_bytes(b"")
    with open_video(folder) as video:
        assert numbers_of(video.frames_at_indices([7, 10])) == [8, 11]
        for number, words in ((7, "another size"), (9, "not an image"), (10, "not an image")):
            with pytest.raises(VideoError, match=rf"{words}: .*img_{number}\.png"):
                video.frames_at_indices([number - 1])


@pytest.mark.parametrize("pattern", ["", "*.png", "%03d.png"])
def test_nothing_there(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(VideoError, match="no images"):
        open_video(tmp_path / pattern)
