"""Clean copies: same pictures at the same times, readable by index, the original untouched."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import encode, numbers_of

from vidkd.base.errors import VideoError
from vidkd.base.files import sha256
from vidkd.video import normalise_video, open_video
from vidkd.video.check import plan_frames, usual_rate

Made = Callable[[str], Path]


def numbers_in(path: Path) -> list[int]:
    with open_video(path, backend="decord") as video:
        return numbers_of(video.frames_at_indices(range(len(video))))


@pytest.mark.parametrize(
    ("name", "first"),
    [("b_frames.mp4", 0), ("transport_at_100_s.ts", 0), ("open_gop.mp4", 0), ("edit_list.mp4", 7), ("av1.mp4", 0), ("b_frames.mkv", 0)],
)
def test_constant_rate_keeps_frames_one_for_one(made: Made, tmp_path: Path, name: str, first: int) -> None:
    before = sha256(made(name))
    check = normalise_video(made(name), tmp_path / "copy.mp4")
    assert (check.usable, check.index_reliable, check.codec) == (True, True, "h264")
    assert numbers_in(tmp_path / "copy.mp4") == list(range(first, 60))
    assert check.average_fps == pytest.approx(25)
    assert sha256(made(name)) == before


def test_variable_rate_shows_the_same_frame_at_the_same_time(made: Made, tmp_path: Path) -> None:
    check = normalise_video(made("variable.mp4"), tmp_path / "copy.mp4")
    with open_video(made("variable.mp4")) as source, open_video(tmp_path / "copy.mp4") as copy:
        assert abs(copy.info.duration_s - source.info.duration_s) <= 0.5 / check.average_fps
        np.testing.assert_allclose(np.diff(copy.timestamps_s), 1 / check.average_fps, atol=1e-6)
        assert numbers_of(copy.frames_at_indices(range(len(copy)))) == numbers_of(source.frames_at_times(copy.timestamps_s))


@pytest.mark.parametrize(("name", "size"), [("quarter_left.mp4", (64, 96)), ("odd_size.mp4", (97, 63))])
def test_size_is_kept_and_rotation_is_carried_out(made: Made, tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    check = normalise_video(made(name), tmp_path / "copy.mp4")
    assert (check.width, check.height, check.index_reliable) == (*size, True)
    with open_video(made(name)) as source, open_video(tmp_path / "copy.mp4") as copy:
        assert np.abs(copy.frames_at_indices([9]).astype(int) - source.frames_at_indices([9])).mean() < 8


@pytest.mark.parametrize("name", ["truncated.mp4", "truncated.mkv", "damaged.mp4", "damaged.mkv", "damaged.ts"])
def test_broken_sources_leave_no_copy(made: Made, tmp_path: Path, name: str) -> None:
    with pytest.raises(VideoError):
        normalise_video(made(name), tmp_path / "copy.mp4")
    assert list(tmp_path.iterdir()) == []


def test_the_source_is_never_replaced(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", frames=3)
    (tmp_path / "link.mp4").symlink_to(source)
    before = sha256(source)
    for destination in (source, tmp_path / "link.mp4", tmp_path / "sub" / ".." / "a.mp4"):
        with pytest.raises(VideoError, match="would replace its source"):
            normalise_video(source, destination)
    assert sha256(source) == before


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(25, Fraction(25)), (30.001, Fraction(30)), (29.97, Fraction(30000, 1001)), (23.976, Fraction(24000, 1001)), (7.5, Fraction(15, 2))],
)
def test_usual_rate(fps: float, expected: Fraction) -> None:
    assert usual_rate(fps) == expected


def test_plan_of_a_variable_rate() -> None:
    """Frames at 0, 0.1 and 0.4 s, half a second in all: at 6 a second, their average, the second is shown twice, the third never."""
    rate, repeats = plan_frames(np.array([0, 0.1, 0.4]), 0.5)
    assert (rate, dict(repeats)) == (Fraction(6), {0: 1, 1: 2})


def test_plan_of_times_rounded_to_milliseconds_is_one_for_one() -> None:
    times_s = np.round(np.arange(90) * 1001 / 30000, 3)
    rate, repeats = plan_frames(times_s, times_s[-1] + 0.033)
    assert rate == Fraction(30000, 1001)
    assert list(repeats.values()) == [1] * 90
