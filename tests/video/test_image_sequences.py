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


def test_padded_numbers_that_start_late(tmp_path: Path) -> None:
    for number in (98, 99, 100):
        cv2.imwrite(str(tmp_path / f"{number:05d}.png"), numbered_image(number)[:, :, ::-1])
    with open_video(tmp_path / "%05d.png") as video:
        assert numbers_of(video.frames_at_indices(range(3))) == [98, 99, 100]
        assert video.timestamps_s.tolist() == [0, 1 / 25, 2 / 25]


def test_short_side(folder: Path) -> None:
    with open_video(folder, short_side=32) as video:
        assert video.frames_at_indices([0]).shape == (1, 32, 48, 3)


@pytest.mark.parametrize("pattern", ["", "img_%d.png"])
@pytest.mark.parametrize(
    ("gone", "what", "missing"),
    [
        ([5], "1 of the images 1 to 12 is missing", "5"),
        ([3, 5, 6, 7], "4 of the images 1 to 12 are missing", "3, 5 to 7"),
        ([1, 12, 11], None, ""),
    ],
)
def test_a_missing_number_is_an_error_that_names_it(folder: Path, pattern: str, gone: list[int], what: str | None, missing: str) -> None:
    for number in gone:
        (folder / f"img_{number}.png").unlink()
    if what is None:  # a run may begin and end anywhere
        with open_video(folder / pattern) as video:
            assert len(video) == 9
        return
    with pytest.raises(VideoError, match=what) as error:
        open_video(folder / pattern)
    assert error.value.lines["missing"] == missing
    assert error.value.lines["first"] == f"img_{gone[0]}.png"
    with open_video(folder / "*.png") as video:
        assert len(video) == 12 - len(gone), "a glob takes what is there"


def test_many_gaps_are_counted(tmp_path: Path) -> None:
    for number in range(0, 40, 5):
        (tmp_path / f"f{number:03d}.jpg").touch()
    with pytest.raises(VideoError, match="28 of the images 0 to 35") as error:
        open_video(tmp_path)
    assert error.value.lines["missing"] == "1 to 4, 6 to 9, 11 to 14, 16 to 19, 21 to 24 and 2 more gaps"


def test_names_that_are_not_numbered_alike_have_no_gaps(tmp_path: Path) -> None:
    for number, name in enumerate(("a_7.png", "b_2.png", "b_10.png", "b_10_x.png", "c.png")):
        cv2.imwrite(str(tmp_path / name), numbered_image(number)[:, :, ::-1])
    (tmp_path / "._a_7.png").write_bytes(b"what macOS leaves in archives")
    with open_video(tmp_path) as video:
        assert numbers_of(video.frames_at_indices(range(len(video)))) == [0, 1, 2, 3, 4]


def test_one_number_written_twice_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("f1.png", "f01.png", "f3.png"):
        cv2.imwrite(str(tmp_path / name), numbered_image(1))
    with open_video(tmp_path) as video:
        assert len(video) == 3


def test_only_frames_that_are_asked_for_are_read(folder: Path) -> None:
    """The first tells the size; another one that is no image is not touched."""
    (folder / "img_9.png").write_bytes(b"no image")
    with open_video(folder) as video:
        assert numbers_of(video.frames_at_indices([7, 9])) == [8, 10]


def test_a_listing_is_remembered_until_the_folder_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    scandir = os.scandir
    monkeypatch.setattr("vidkd.video.image_sequence.os.scandir", lambda path: calls.append(path) or scandir(path))
    os.utime(folder, (1, 1))
    for _ in range(3):
        open_video(folder).close()
    assert len(calls) == 1
    (folder / "img_13.png").write_bytes((folder / "img_12.png").read_bytes())
    with open_video(folder) as video:
        assert len(video) == 13
    with open_video(folder) as video:
        assert (len(video), len(calls)) == (13, 3), "a folder that was changed just now may change again unseen"


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none(folder: Path, fps: float) -> None:
    with pytest.raises(VideoError, match="frame rate of an image sequence must be positive"):
        open_video(folder, sequence_fps=fps)


def test_an_image_of_another_size_is_an_error(folder: Path) -> None:
    cv2.imwrite(str(folder / "img_7.png"), numbered_image(7, 32, 48))
    with open_video(folder) as video, pytest.raises(VideoError, match=r"img_7\.png"):
        video.frames_at_indices([6])


def test_a_broken_image_is_an_error(folder: Path) -> None:
    (folder / "img_2.png").write_bytes(b"")
    with open_video(folder) as video, pytest.raises(VideoError, match=r"not an image: .*img_2\.png"):
        list(video.stream())


def test_nothing_there(tmp_path: Path) -> None:
    for pattern in ("", "*.png", "%03d.png"):
        with pytest.raises(VideoError, match="no images"):
            open_video(tmp_path / pattern)


def test_too_large(folder: Path) -> None:
    with pytest.raises(VideoError, match="too large"):
        open_video(folder, max_pixels=1000)
