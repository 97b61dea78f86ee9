"""What is written is what is read; a file is whole or not there; parts join without being encoded again."""

import errno
import os
import signal
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numbered_videos import VARIABLE_TIMES_S, numbered_image, numbers_of

from vidkd.base.errors import VideoError
from vidkd.video import VideoWriter, check_video, open_video, write_video
from vidkd.video.index import read_packets
from vidkd.video.writer import join_videos

Parts = list[tuple[Path, list[float]]]


def noise(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def numbered(count: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    return [numbered_image(number, height, width) for number in range(count)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 5),
    height=st.integers(16, 40),
    width=st.integers(16, 40),
    seed=st.integers(0, 9),
    suffix=st.sampled_from([".mp4", ".mkv"]),
)
def test_lossless_gives_identical_frames(tmp_path: Path, count: int, height: int, width: int, seed: int, suffix: str) -> None:
    images = noise(count, height, width, seed)
    path = tmp_path / f"lossless{suffix}"
    write_video(path, images, fps=10, lossless=True)
    with open_video(path) as video:
        np.testing.assert_array_equal(video.frames_at_indices(range(count)), images)
    assert len(read_packets(path).keys) == count


@pytest.mark.parametrize("size", [(64, 96), (63, 97), (64, 97), (63, 96)])
def test_size_is_kept_and_colours_are_close(tmp_path: Path, size: tuple[int, int]) -> None:
    write_video(tmp_path / "new" / "a.mp4", numbered(30, *size), fps=25, crf=12)
    with open_video(tmp_path / "new" / "a.mp4") as video:
        assert (video.info.height, video.info.width) == size
        images = video.frames_at_indices(range(30))
    assert numbers_of(images) == list(range(30))
    assert np.abs(images.astype(int) - np.stack(numbered(30, *size))).mean() < 4


def test_default_file_is_what_every_decoder_reads_alike(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, numbered(40), fps=25)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content == (tmp_path / "b.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    check = check_video(tmp_path / "a.mp4")
    assert (check.usable, check.index_reliable, check.frame_count, check.codec) == (True, True, 40, "h264")
    index = read_packets(tmp_path / "a.mp4")
    keys = [index.pts.tolist().index(pts) for pts, _ in index.keys]
    assert keys[0] == 0
    assert max(np.diff([*keys, 40])) <= 12
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.mp4").stat().st_mode == (tmp_path / "plain").stat().st_mode, "others can read it"


def test_small_pictures_are_encoded_alike_however_often(tmp_path: Path) -> None:
    """Macroblock trees made 7 of 100 such files differ on a processor with AVX-512."""
    texture = np.random.default_rng(0).integers(30, 90, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.repeat(texture[None], 60, 0)
    for t, frame in enumerate(frames):
        frame[5 + t % 20 : 15 + t % 20, 8 + t % 30 : 18 + t % 30] = 220
    files = set()
    for size in np.random.default_rng(1).integers(1_000, 200_000, 40):
        dirty = np.full(size, 0xA5, np.uint8)  # what is left in memory differs from run to run
        del dirty
        write_video(tmp_path / "small.mp4", frames, fps=25)
        files.add((tmp_path / "small.mp4").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize("fps", [25, 30000 / 1001, 12.5, Fraction(24000, 1001)])
def test_rate_is_exact(tmp_path: Path, fps: float) -> None:
    write_video(tmp_path / "a.mp4", numbered(31), fps=fps)
    with open_video(tmp_path / "a.mp4") as video:
        np.testing.assert_allclose(video.timestamps_s, [float(n / fps) for n in range(31)], atol=1e-9)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate_comes_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_video(path, numbered(60), fps=25, times_s=VARIABLE_TIMES_S)
    with open_video(path) as video:
        np.testing.assert_allclose(video.timestamps_s, VARIABLE_TIMES_S, atol=1e-4 if suffix == ".mp4" else 1e-3)
        assert numbers_of(video.frames_at_times([0.1, 0.21])) == [2, 3]


def failing() -> Iterator[np.ndarray]:
    yield from numbered(5)
    raise RuntimeError("the source broke")


def test_a_file_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps=25) as writer:
        for number in (3, 1, 2):
            writer.write(numbered_image(number))
        assert not (tmp_path / "a.mp4").exists()
    with pytest.raises(RuntimeError, match="broke"):
        write_video(tmp_path / "a.mp4", failing(), fps=25)
    with open_video(tmp_path / "a.mp4") as video:
        assert numbers_of(video.frames_at_indices(range(3))) == [3, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    write_video(tmp_path / "a.mp4", numbered(9)[5:], fps=25)
    with open_video(tmp_path / "a.mp4") as video:
        assert numbers_of(video.frames_at_indices(range(len(video)))) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"frames": []}, "no frame was written"),
        ({"frames": [numbered_image(0).astype(np.float32)]}, "expected"),
        ({"frames": [numbered_image(0), numbered_image(1, 32, 96)]}, "expected"),
        ({"frames": numbered(3), "times_s": [0, 0.2, 0.2]}, "rise"),
        ({"frames": numbered(2), "times_s": [-0.1, 0.2]}, "rise"),
        ({"frames": numbered(2), "path": "a.xyz"}, "cannot write video"),
    ],
)
def test_wrong_input_is_an_error_and_leaves_nothing(tmp_path: Path, arguments: dict[str, object], reason: str) -> None:
    arguments = {"fps": 25, "path": "a.mp4", **arguments}
    with pytest.raises(VideoError, match=reason):
        write_video(tmp_path / str(arguments.pop("path")), **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no limit on the size of files there")
@pytest.mark.parametrize("room", [200, 30_000])
def test_a_full_disk_is_a_message_and_leaves_nothing(tmp_path: Path, room: int) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(VideoError, match=r"cannot write video: .*full\.mp4") as caught:
            write_video(tmp_path / "full.mp4", noise(30, 64, 64), fps=10, crf=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.lines["reason"] == os.strerror(errno.EFBIG)
    assert "free disk space" in caught.value.lines["fix"]
    assert list(tmp_path.iterdir()) == []


TIMES_S = [0.0, 0.04, 0.1, 0.5, 0.54, 0.6, 2.0, 2.04, 2.5]


def part(path: Path, numbers: range, width: int = 96) -> tuple[Path, list[float]]:
    times_s = [TIMES_S[number] for number in numbers]
    images = [numbered_image(number, 64, width) for number in numbers]
    write_video(path, images, fps=25, times_s=[time_s - times_s[0] for time_s in times_s])
    return path, times_s


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return [part(tmp_path / f"{place}.mp4", numbers) for place, numbers in enumerate((range(4), range(4, 5), range(5, 9)))]


def test_joined_frames_and_times_are_those_of_the_parts(parts: Parts, tmp_path: Path) -> None:
    assert join_videos(tmp_path / "whole.mp4", iter(parts), fps=25) == 9
    coded = []
    for path, _ in parts:
        with open_video(path) as video:
            coded.append(video.frames_at_indices(range(len(video))))
    for backend in ("decord", "pyav"):
        with open_video(tmp_path / "whole.mp4", backend=backend) as whole:
            np.testing.assert_allclose(whole.timestamps_s, TIMES_S, atol=1 / 90_000)
            assert whole.info.duration_s == pytest.approx(2.54, abs=1e-4)
            assert [numbers_of(whole.frames_at_indices([place]))[0] for place in (8, 4, 0, 5, 3)] == [8, 4, 0, 5, 3]
            if backend == "pyav":
                np.testing.assert_array_equal(whole.frames_at_indices(range(9)), np.concatenate(coded))
    content = (tmp_path / "whole.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_what_cannot_be_joined_leaves_what_was_there(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "whole.mp4").write_bytes(b"before")
    path, times_s = parts[2]
    wrong = {
        r"4 frames instead of 3 in: .*2\.mp4": (path, times_s[:-1]),
        r"4 frames instead of 5 in: .*2\.mp4": (path, [*times_s, 9.0]),
        r"encoded in another way than the parts before it: .*other\.mp4": part(tmp_path / "other.mp4", range(5, 9), width=64),
    }
    for message, last in wrong.items():
        with pytest.raises(VideoError, match=message):
            join_videos(tmp_path / "whole.mp4", [*parts[:2], last], fps=25)
    with pytest.raises(VideoError, match="no frame was written"):
        join_videos(tmp_path / "whole.mp4", [], fps=25)
    assert (tmp_path / "whole.mp4").read_bytes() == b"before"
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(VideoError, match="cannot write video"):
        join_videos(tmp_path / "no" / "whole.mp4", parts, fps=25)
