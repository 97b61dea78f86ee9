"""Clean copies: same pictures at the same times, readable by index, the original untouched."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import VARIABLE_TIMES_S, encode, numbers_of

from vidkd.base.errors import VideoError
from vidkd.base.files import sha256
from vidkd.video import normalise_video, open_video
from vidkd.video.normalise import plan_frames, usual_rate

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
    normalise_video(made("variable.mp4"), tmp_path / "copy.mp4", fps=25)
    with open_video(made("variable.mp4")) as source, open_video(tmp_path / "copy.mp4") as copy:
        assert abs(copy.info.duration_s - source.info.duration_s) <= 0.5 / 25
        np.testing.assert_allclose(np.diff(copy.timestamps_s), 0.04, atol=1e-9)
        middles_s = copy.timestamps_s[:-1] + 0.02
        assert numbers_of(copy.frames_at_times(middles_s)) == numbers_of(source.frames_at_times(middles_s))


def test_rotation_is_carried_out(made: Made, tmp_path: Path) -> None:
    check = normalise_video(made("quarter_left.mp4"), tmp_path / "copy.mp4")
    assert (check.width, check.height) == (64, 96)
    with open_video(made("quarter_left.mp4")) as source, open_video(tmp_path / "copy.mp4") as copy:
        assert copy.info.rotation_deg == 0
        assert np.abs(copy.frames_at_indices([9]).astype(int) - source.frames_at_indices([9])).mean() < 8


def test_other_size_and_rate(made: Made, tmp_path: Path) -> None:
    check = normalise_video(made("b_frames.mp4"), tmp_path / "copy.mp4", short_side=32, fps=12.5)
    assert (check.width, check.height, check.frame_count) == (48, 32, 30)
    assert check.average_fps == pytest.approx(12.5)


def test_odd_size_is_kept(made: Made, tmp_path: Path) -> None:
    check = normalise_video(made("odd_size.mp4"), tmp_path / "copy.mp4")
    assert (check.width, check.height, check.index_reliable) == (97, 63, True)


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
    """Frames at 0, 0.1 and 0.4 s, half a second in all: at 10 a second the second is shown three times."""
    rate, repeats = plan_frames(np.array([0, 0.1, 0.4]), 0.5, 10)
    assert (rate, dict(repeats)) == (Fraction(10), {0: 1, 1: 3, 2: 1})


def test_plan_of_times_rounded_to_milliseconds_is_one_for_one() -> None:
    times_s = np.round(np.arange(90) * 1001 / 30000, 3)
    rate, repeats = plan_frames(times_s, times_s[-1] + 0.033, None)
    assert rate == Fraction(30000, 1001)
    assert list(repeats.values()) == [1] * 90


def test_plan_without_a_rate_takes_the_average() -> None:
    rate, repeats = plan_frames(VARIABLE_TIMES_S, 3.8, None)
    assert float(rate) == pytest.approx(60 / 3.8, rel=1e-3)
    assert sum(repeats.values()) == 60
