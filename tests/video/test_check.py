"""What check_video says of files of every kind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kinds_of_files import PLAIN, PYAV_ONLY
from numbered_videos import cut, encode, numbered_image

from vidkd.video import check_video, open_video
from vidkd.video.check import _sample_problem, _Sampler
from vidkd.video.containers import ends_early
from vidkd.video.decord_reader import DecordReader

Made = Callable[[str], Path]


@pytest.mark.parametrize("name", [*PLAIN, "av1.mp4", "quarter_left.mp4", "bt709.mp4", "full_range.mp4"])
def test_plain_files_are_usable_and_reliable(made: Made, name: str) -> None:
    check = check_video(made(name))
    assert (check.usable, check.index_reliable, check.first_error, check.index_problem) == (True, True, None, None)


@pytest.mark.parametrize("name", PYAV_ONLY)
def test_misread_files_are_usable_and_unreliable(made: Made, name: str) -> None:
    _, first, reason = PYAV_ONLY[name]
    check = check_video(made(name))
    assert (check.usable, check.index_reliable, check.frame_count) == (True, False, 60 - first)
    assert reason in str(check.index_problem)


@pytest.mark.parametrize("name", ["transport_at_100_s.ts", "negative_start.mp4", "edit_list.mp4", "b_frames.avi"])
def test_comparing_frames_finds_them_too(made: Made, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second net under the first: were such a file let through to decord, the samples would differ."""
    with open_video(made(name)) as right:
        samples = {index: right.frames_at_indices([index])[0] for index in (0, 11, 25, 40)}
        assert _sample_problem(right, samples, list(samples)) is None
    monkeypatch.setattr(DecordReader, "_problem", lambda _reader: None)
    with open_video(made(name), backend="decord") as wrong:
        assert "by index is not frame" in str(_sample_problem(wrong, samples, list(samples)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("truncated.mp4", "a packet is damaged or cut off"),
        ("cut_between_packets.mp4", "71 of 120 frames"),
        ("truncated.mkv", "header promises 4.80 s"),
        ("damaged.mp4", "after 48 frames"),
        ("damaged.mkv", "frames are missing"),
        ("damaged.ts", "a packet is damaged"),
    ],
)
def test_broken_files_are_unusable(made: Made, name: str, words: str) -> None:
    check = check_video(made(name))
    assert (check.usable, check.index_reliable) == (False, False)
    assert words in str(check.first_error)
    assert 0 < check.frame_count < 120
    assert check.codec == "h264"


def test_files_that_are_no_video(made: Made, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("text")
    cut(encode(tmp_path / "index_at_end.mp4"), 0.5)
    expected = {
        "empty.mp4": "empty file",
        "text.mp4": "cannot open video",
        "missing.mp4": "no such video",
        "index_at_end.mp4": "cannot open",
    }
    for name, words in expected.items():
        check = check_video(tmp_path / name)
        assert (check.usable, check.frame_count, check.index_reliable) == (False, 0, False)
        assert words in str(check.first_error)
    assert "96 x 64" in str(check_video(made("b_frames.mp4"), max_pixels=100).first_error)


def test_facts(made: Made) -> None:
    check = check_video(made("quarter_left.mp4"))
    assert (check.codec, check.width, check.height, check.frame_count) == ("h264", 64, 96, 60)
    assert (check.average_fps, check.duration_s) == (pytest.approx(25), pytest.approx(2.4))


def test_samples_hold_both_ends_and_repeat_by_seed() -> None:
    def chosen(count: int, size: int, seed: int) -> list[int]:
        sampler = _Sampler(size, seed)
        for number in range(count):
            sampler.add(number)
        assert all(place == frame for place, frame in sampler.frames().items())
        return sorted(sampler.frames())

    assert chosen(100, 10, seed=1) == chosen(100, 10, seed=1) != chosen(100, 10, seed=2)
    assert {0, 99} <= set(chosen(100, 10, seed=1))
    assert chosen(3, 10, seed=0) == [0, 1, 2]
    assert chosen(50, 0, seed=0) == [0, 49]


def test_samples_are_uniform() -> None:
    counts = np.zeros(20)
    for seed in range(600):
        sampler = _Sampler(5, seed)
        for number in range(20):
            sampler.add(number)
        counts[[place for place, _ in sampler._kept]] += 1
    assert abs(counts / 600 - 5 / 20).max() < 0.08  # 4.5 standard deviations


class _Shifted:
    """A reader that is wrong by one frame from `start` on."""

    def __init__(self, start: int) -> None:
        self.start = start

    def frames_at_indices(self, indices: list[int], /) -> np.ndarray:
        return np.stack([numbered_image(index + (index >= self.start)) for index in indices])


def test_a_shift_by_one_frame_is_seen_and_named() -> None:
    samples = {index: numbered_image(index) for index in (0, 5, 9)}
    assert _sample_problem(_Shifted(10), samples, [9, 0, 5]) is None
    assert "frame 9 by index" in str(_sample_problem(_Shifted(6), samples, [0, 9, 5]))


@pytest.mark.parametrize(
    ("declared_s", "found_s", "early"),
    [(None, 1.0, False), (4.0, 3.85, False), (4.0, 3.7, True), (100.0, 98.1, False), (100.0, 97.0, True)],
)
def test_how_early_is_early(declared_s: float | None, found_s: float, early: bool) -> None:
    assert (ends_early(declared_s, found_s) is not None) == early
