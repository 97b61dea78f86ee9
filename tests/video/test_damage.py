"""A damaged file that nobody has checked gives an error and no wrong picture, whoever opens it first."""

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import encode

from vidkd.base.errors import VideoError
from vidkd.video import VideoCheck, check_video, open_video

INDICES = [0, 9, 18, 27, 36]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_flipped_bit_is_an_error_or_harmless(tmp_path: Path, suffix: str) -> None:
    whole = encode(tmp_path / f"whole{suffix}", frames=40)
    content = whole.read_bytes()
    with open_video(whole) as video:
        expected = video.frames_at_indices(INDICES)
    draw, errors = random.Random(0), 0
    for number in range(30):
        damaged = bytearray(content)
        damaged[draw.randrange(40, len(content))] ^= 1 << draw.randrange(8)
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(damaged)
        try:
            with open_video(path) as video:
                found = video.frames_at_indices(INDICES)
        except VideoError:
            errors += 1
            continue
        assert (found.shape == expected.shape and np.array_equal(found, expected)) or check_video(path).usable, number
    assert errors or suffix == ".avi"  # whose packets are found without a table


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_broken_header_is_a_video_error(tmp_path: Path, suffix: str) -> None:
    """Among these are headers that name no codec, no size or no time base."""
    content = encode(tmp_path / f"whole{suffix}", frames=10).read_bytes()
    draw = random.Random(1)
    for number in range(60):
        damaged = bytearray(content)
        for _ in range(draw.choice([1, 4])):
            damaged[draw.randrange(min(3000, len(content)))] = draw.randrange(256)
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(damaged)
        assert isinstance(check_video(path), VideoCheck), number
        with contextlib.suppress(VideoError), open_video(path) as video:
            video.frames_at_indices([0, len(video) - 1])
