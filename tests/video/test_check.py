"""What check_video says of files of every kind, and what is said of files that are no video."""

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kinds_of_files import PLAIN, PYAV_ONLY
from numbered_videos import cut, encode, numbered_image

from vidkd.base.errors import VideoError
from vidkd.video import VideoCheck, check_video, open_stream, open_video, write_video
from vidkd.video.check import index_problem
from vidkd.video.containers import why_no_video

Made = Callable[[str], Path]


@pytest.mark.parametrize("name", [*PLAIN, "av1.mp4", "quarter_left.mp4", "bt709.mp4", "full_range.mp4"])
def test_plain_files_are_usable_and_reliable(made: Made, name: str) -> None:
    check = check_video(made(name))
    assert (check.usable, check.index_reliable, check.first_error, check.index_problem) == (True, True, None, None)
    if name == "quarter_left.mp4":
        assert (check.codec, check.width, check.height, check.frame_count) == ("h264", 64, 96, 60)
        assert (check.average_fps, check.duration_s) == (pytest.approx(25), pytest.approx(2.4))


@pytest.mark.parametrize("name", PYAV_ONLY)
def test_misread_files_are_usable_and_unreliable(made: Made, name: str) -> None:
    _, first, reason = PYAV_ONLY[name]
    check = check_video(made(name))
    assert (check.usable, check.index_reliable, check.frame_count) == (True, False, 60 - first)
    assert reason in str(check.index_problem)


@pytest.mark.parametrize("wrong", ["frame", "time", "count"])
def test_an_index_that_gives_other_frames_is_found(made: Made, wrong: str) -> None:
    with open_video(made("b_frames.mp4")) as reader:
        expected = {index: reader.frames_at_indices([index])[0] for index in (0, 11, 40)}
        times_s = reader.timestamps_s.copy()
        assert index_problem(reader, times_s, expected) is None
        if wrong == "frame":
            expected[40] = numbered_image(41)
        times_s = times_s[:-1] if wrong == "count" else times_s + 0.02 * (wrong == "time")
        said = {"frame": "frame 40 by index is not frame 40", "time": "times by index are off by up to 0.020", "count": "counts 60 frames"}
        assert said[wrong] in str(index_problem(reader, times_s, expected))


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
    assert (check.usable, check.index_reliable, check.codec) == (False, False, "h264")
    assert words in str(check.first_error)
    assert 0 < check.frame_count < 120


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (bytes(5000), "its first 4096 bytes are zero, as of a download that was not finished"),
        (b"\n <!DOCTYPE html>\n<p>404", "it is text, not a video, and begins: <!DOCTYPE html>"),
        (("\ufeff" + 2000 * "走る\n").encode(), "it is text, not a video, and begins: 走る"),
        (b"x" * 100, "it is text, not a video, and begins: " + 57 * "x" + "..."),
        (bytes(range(256)), None),
        (b"text with a zero\0", None),
    ],
)
def test_what_the_first_bytes_tell(content: bytes, said: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    assert why_no_video(tmp_path / "a.mp4") == said
    check = check_video(tmp_path / "a.mp4")
    assert (check.usable, check.frame_count, check.index_reliable) == (False, 0, False)
    assert ("empty file" if not content else said or "Invalid data") in str(check.first_error)


def test_an_mp4_without_its_table_was_cut_off(tmp_path: Path) -> None:
    """The table is behind the pictures, unless it was moved to the front."""
    at_end, at_front = encode(tmp_path / "end.mp4"), tmp_path / "front.mp4"
    write_video(at_front, np.zeros((9, 48, 64, 3), np.uint8), fps=25)
    assert why_no_video(at_end) is None
    cut(at_front, 0.9)
    assert why_no_video(at_front) is None
    for fraction in (0.9, 0.3):  # in the middle of the table, and before it
        cut(at_end, fraction)
        with pytest.raises(
            VideoError, match=r"cannot open video: .*end\.mp4\n  reason : the file was cut off(.|\n)*vidkd prepare_data check"
        ):
            open_video(at_end)


def test_sources_that_are_not_there_are_told_how_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for opens in (open_video, open_stream):
        with pytest.raises(VideoError, match="no such video: nope") as caught:
            opens("nope.mp4")
        assert caught.value.lines["looked in"] == str(tmp_path)
        assert "a folder of images" in caught.value.lines["fix"]
        with pytest.raises(VideoError, match="a camera is named by its number, here 97"):
            opens("/dev/video97")


INDICES = [0, 9, 18, 27, 36]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_flipped_bit_is_an_error_or_harmless(tmp_path: Path, suffix: str) -> None:
    """A damaged file that nobody has checked gives an error and no wrong picture."""
    content = encode(tmp_path / f"whole{suffix}", frames=40).read_bytes()
    with open_video(tmp_path / f"whole{suffix}") as video:
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
