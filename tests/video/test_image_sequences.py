"""Folders, globs and numbered patterns of images through open_video."""

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


def test_short_side(folder: Path) -> None:
    with open_video(folder, short_side=32) as video:
        assert video.frames_at_indices([0]).shape == (1, 32, 48, 3)


def test_a_missing_number_is_an_error(folder: Path) -> None:
    (folder / "img_5.png").unlink()
    with pytest.raises(VideoError, match=r"img_5\.png"):
        open_video(folder / "img_%d.png")


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
