"""What is written is what is read; a file is whole or not there."""

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
from numbered_videos import VARIABLE_TIMES_S, number_of, numbered_image, numbers_of

from vidkd.base.errors import VideoError
from vidkd.video import VideoWriter, check_video, open_video, write_video
from vidkd.video.index import read_packets


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
    for backend in ("auto", "pyav"):
        with open_video(path, backend=backend) as video:
            np.testing.assert_array_equal(video.frames_at_indices(range(count)), images)


def test_lossless_is_all_key_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "lossless.mp4", numbered(20), fps=25, lossless=True)
    assert len(read_packets(tmp_path / "lossless.mp4").keys) == 20


@pytest.mark.parametrize("size", [(64, 96), (63, 97), (64, 97), (63, 96)])
def test_size_is_kept_and_colours_are_close(tmp_path: Path, size: tuple[int, int]) -> None:
    write_video(tmp_path / "a.mp4", numbered(30, *size), fps=25, crf=12)
    with open_video(tmp_path / "a.mp4") as video:
        assert (video.info.height, video.info.width) == size
        images = video.frames_at_indices(range(30))
    assert numbers_of(images) == list(range(30))
    assert np.abs(images.astype(int) - np.stack(numbered(30, *size))).mean() < 4


def test_default_file_is_what_every_decoder_reads_alike(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(40), fps=25)
    check = check_video(tmp_path / "a.mp4")
    assert (check.usable, check.index_reliable, check.frame_count, check.codec) == (True, True, 40, "h264")
    assert check.average_fps == pytest.approx(25)
    index = read_packets(tmp_path / "a.mp4")
    keys = [index.pts.tolist().index(pts) for pts, _ in index.keys]
    assert keys[0] == 0
    assert max(np.diff([*keys, 40])) <= 12
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_same_input_same_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, noise(20, 48, 64), fps=25)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


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


@pytest.mark.parametrize(
    ("fps", "exact"),
    [(25, Fraction(25)), (30000 / 1001, Fraction(30000, 1001)), (12.5, Fraction(25, 2)), (Fraction(24000, 1001), Fraction(24000, 1001))],
)
def test_rate_is_exact(tmp_path: Path, fps: float, exact: Fraction) -> None:
    write_video(tmp_path / "a.mp4", numbered(31), fps=fps)
    with open_video(tmp_path / "a.mp4") as video:
        np.testing.assert_allclose(video.timestamps_s, [float(n / exact) for n in range(31)], atol=1e-9)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate_comes_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_video(path, numbered(60), fps=25, times_s=VARIABLE_TIMES_S)
    with open_video(path) as video:
        np.testing.assert_allclose(video.timestamps_s, VARIABLE_TIMES_S, atol=1e-4 if suffix == ".mp4" else 1e-3)
        assert numbers_of(video.frames_at_times([0.1, 0.21])) == [2, 3]


def test_writer_frame_by_frame(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=96, height=64) as writer:
        for number in (3, 1, 2):
            writer.write(numbered_image(number))
        assert not (tmp_path / "a.mp4").exists()
    with open_video(tmp_path / "a.mp4") as video:
        assert numbers_of(video.frames_at_indices(range(3))) == [3, 1, 2]


def test_folders_are_made_and_the_file_can_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.mp4"
    write_video(path, numbered(2), fps=25)
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def failing() -> Iterator[np.ndarray]:
    yield from numbered(5)
    raise RuntimeError("the source broke")


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(3), fps=25)
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(RuntimeError, match="the source broke"):
        write_video(tmp_path / "a.mp4", failing(), fps=25)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_replaces_an_existing_file(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(3), fps=25)
    write_video(tmp_path / "a.mp4", numbered(9)[5:], fps=25)
    with open_video(tmp_path / "a.mp4") as video:
        assert len(video) == 4
        assert number_of(video.frames_at_indices([0])[0]) == 5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"frames": []}, "no frame was written"),
        ({"frames": [numbered_image(0).astype(np.float32)]}, "expected"),
        ({"frames": [numbered_image(0), numbered_image(1, 32, 96)]}, "expected"),
        ({"frames": numbered(3), "times_s": [0, 0.1]}, "more than 2"),
        ({"frames": numbered(2), "times_s": [0, 0.1, 0.2]}, "times"),
        ({"frames": numbered(3), "times_s": [0, 0.2, 0.2]}, "does not rise"),
        ({"frames": numbered(2), "times_s": [-0.1, 0.2]}, "does not rise"),
        ({"frames": numbered(2), "fps": 0}, "frames a second"),
        ({"frames": numbered(2), "codec": "no_such_codec"}, "no_such_codec"),
        ({"frames": numbered(2), "path": "a.xyz"}, "cannot write video"),
    ],
)
def test_wrong_input_is_an_error_and_leaves_nothing(tmp_path: Path, arguments: dict[str, object], reason: str) -> None:
    arguments = {"fps": 25, "path": "a.mp4", **arguments}
    with pytest.raises(VideoError, match=reason):
        write_video(tmp_path / str(arguments.pop("path")), **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_times_for_some_frames_only_are_an_error(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", fps=25, width=96, height=64)
    writer.write(numbered_image(0))
    with pytest.raises(VideoError, match="for all frames or for none"):
        writer.write(numbered_image(1), time_s=0.5)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", ["libx265", "mpeg4", "ffv1"])
def test_other_codecs(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, numbered(15), fps=25, codec=codec)
    with open_video(path) as video:
        assert numbers_of(video.frames_at_indices([14, 0, 7])) == [14, 0, 7]


@pytest.mark.skipif(os.name == "nt", reason="no limit on the size of files there")
@pytest.mark.parametrize("room", [200, 30_000])
def test_a_full_disk_is_a_message_and_leaves_nothing(tmp_path: Path, room: int) -> None:
    import resource

    images = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(VideoError, match=r"cannot (write|finish) video: .*full\.mp4") as caught:
            write_video(tmp_path / "full.mp4", images, fps=10, crf=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.lines["reason"] == os.strerror(errno.EFBIG)
    assert "free disk space" in caught.value.lines["fix"]
    assert list(tmp_path.iterdir()) == []
