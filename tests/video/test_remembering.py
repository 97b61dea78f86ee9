"""A file is looked over once, and again when it has changed."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import encode, numbers_of

from vidkd.base.errors import VideoError
from vidkd.video import open_video, opening
from vidkd.video.pyav_reader import PyavReader

Made = Callable[[str], Path]
Calls = list[str]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The files that were looked over, in order."""
    names: Calls = []
    real = opening.read_packets
    monkeypatch.setattr(opening, "read_packets", lambda name: names.append(Path(name).name) or real(name))
    return names


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_a_file_is_looked_over_once(tmp_path: Path, looks: Calls, backend: str) -> None:
    paths = [encode(tmp_path / name, frames=24) for name in ("a.mp4", "b.mp4")]
    for _ in range(3):
        for path in paths:
            with open_video(path, backend=backend) as video:
                assert numbers_of(video.frames_at_indices([20, 3])) == [20, 3]
    assert looks == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_a_file_that_was_written_anew_is_looked_over_again(tmp_path: Path, looks: Calls, backend: str) -> None:
    path = tmp_path / "a.mp4"
    for frames, gop in ((24, 12), (40, 5), (12, 12)):
        encode(path, frames=frames, gop=gop)
        with open_video(path, backend=backend) as video:
            assert len(video) == frames
            assert numbers_of(video.frames_at_indices([frames - 1, 4])) == [frames - 1, 4]
            np.testing.assert_allclose(video.timestamps_s, np.arange(frames) / 25)
    assert looks == ["a.mp4"] * 3


def test_size_time_and_place_on_the_disk_tell_a_changed_file(tmp_path: Path, looks: Calls) -> None:
    path = encode(tmp_path / "a.mp4", frames=24)
    os.utime(path, ns=(5, 5))
    changes: dict[str, Callable[[], object]] = {
        "time": lambda: os.utime(path, ns=(5, 6)),
        "size": lambda: (path.write_bytes(path.read_bytes() + b"free"), os.utime(path, ns=(5, 6))),
        "place": lambda: (
            tmp_path.joinpath("b").write_bytes(path.read_bytes()),
            os.utime(tmp_path / "b", ns=(5, 6)),
            (tmp_path / "b").replace(path),
        ),
    }
    open_video(path).close()
    for number, change in enumerate(changes.values()):
        change()
        open_video(path).close()
        open_video(path).close()
        assert len(looks) == number + 2


def test_a_relative_name_is_another_file_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, frames in (("one", 24), ("other", 12)):
        (tmp_path / folder).mkdir()
        encode(tmp_path / folder / "a.mp4", frames=frames)
        monkeypatch.chdir(tmp_path / folder)
        with open_video("a.mp4") as video:
            assert len(video) == frames


def test_an_error_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("not a video")
    for _ in range(2):
        with pytest.raises(VideoError, match="cannot open"):
            open_video(path)
    encode(path, frames=12)
    with open_video(path) as video:
        assert len(video) == 12


def test_times_that_only_decoding_tells_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: Calls = []
    real = PyavReader._decode_times
    monkeypatch.setattr(PyavReader, "_decode_times", lambda reader: decoded.append(reader.path) or real(reader))
    path = tmp_path / "a.avi"
    for count, frames in enumerate((24, 36), start=1):
        encode(path, frames=frames, codec="mpeg4")
        for _ in range(3):
            with open_video(path) as video:
                assert len(video) == len(video.timestamps_s) == frames
                assert numbers_of(video.frames_at_indices([frames - 1])) == [frames - 1]
        assert len(decoded) == count


@pytest.mark.parametrize("name", ["b_frames.mp4", "b_frames.avi"])
def test_what_readers_share_cannot_be_written_to(made: Made, name: str) -> None:
    index = opening.read_file(str(made(name)), 10**6)
    assert not index.pts.flags.writeable
    assert not index.keys.flags.writeable
    with open_video(made(name), backend="pyav") as video:
        times = video.timestamps_s.copy()
        if name.endswith("avi"):
            with pytest.raises(ValueError, match="read-only"):
                video.timestamps_s[0] = 1
        else:
            video.timestamps_s[0] = 1  # made for this reader
    with open_video(made(name), backend="pyav") as again:
        np.testing.assert_array_equal(again.timestamps_s, times)
