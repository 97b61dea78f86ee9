"""A file's packets are read once a process, or not at all where an index file has them; again when the file has changed."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kinds_of_files import PLAIN, PYAV_ONLY
from numbered_videos import encode, numbers_of

from vidkd.base.errors import VideoError
from vidkd.video import index as index_module
from vidkd.video import open_video, opening
from vidkd.video.index import index_record, read_packets, stored_index, use_index_file, write_index_file
from vidkd.video.pyav_reader import PyavReader

Made = Callable[[str], Path]
Calls = list[str]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The files whose packets were read, in order; no index file is known yet."""
    names: Calls = []
    real = opening.read_packets
    monkeypatch.setattr(opening, "read_packets", lambda name: names.append(Path(name).name) or real(name))
    monkeypatch.setattr(index_module, "_stored", {})
    use_index_file.cache_clear()
    return names


@pytest.mark.parametrize("name", [*PLAIN, *PYAV_ONLY, "quarter_left.mp4", "cut_between_packets.mp4"])
def test_a_record_is_the_index_that_the_packets_give(made: Made, name: str, tmp_path: Path, looks: Calls) -> None:
    path = made(name)
    write_index_file(tmp_path / "m.index", {path.name: index_record(path)})
    use_index_file(tmp_path / "m.index", path.parent)
    found, expected = stored_index(str(path), path.stat()), read_packets(path)
    assert found is not None
    for field in expected.__struct_fields__:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)
    for index in (found, expected):  # readers share them
        assert not index.pts.flags.writeable
        assert not index.keys.flags.writeable


def test_a_file_with_a_record_is_opened_without_reading_its_packets(tmp_path: Path, looks: Calls) -> None:
    path = encode(tmp_path / "a.mp4", frames=24)
    write_index_file(tmp_path / "m.index", {"a.mp4": index_record(path, problem="found by decoding")})
    use_index_file(tmp_path / "m.index", tmp_path)
    with open_video(path) as video:
        assert numbers_of(video.frames_at_indices([20, 3])) == [20, 3]
    with pytest.raises(VideoError, match="found by decoding"):
        open_video(path, backend="decord")
    assert looks == []
    os.utime(path, ns=(5, 6))
    with open_video(path) as video:
        assert len(video) == 24
    assert looks == ["a.mp4"]


def test_without_an_index_file_and_with_another_file_in_its_place(tmp_path: Path) -> None:
    use_index_file(tmp_path / "none.index", tmp_path)
    (tmp_path / "text.index").write_text("text")
    with pytest.raises(VideoError, match=r"not an index of videos: .*text\.index"):
        use_index_file(tmp_path / "text.index", tmp_path)


def test_a_changed_file_is_read_again(tmp_path: Path, looks: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = encode(tmp_path / "a.mp4", frames=24)
    os.utime(path, ns=(5, 5))
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: os.utime(path, ns=(5, 6)),
        lambda: (path.write_bytes(path.read_bytes() + b"free"), os.utime(path, ns=(5, 6))),
        lambda: (Path("b").write_bytes(path.read_bytes()), os.utime("b", ns=(5, 6)), Path("b").replace(path)),  # another place
        lambda: encode(path, frames=40, gop=5),
    ]
    for number, change in enumerate(changes):
        change()
        for backend in ("decord", "pyav"):
            with open_video(path, backend=backend) as video:
                frames = 40 if number == 4 else 24
                assert len(video) == frames
                assert numbers_of(video.frames_at_indices([frames - 1, 4])) == [frames - 1, 4]
        assert len(looks) == number + 1


def test_times_that_only_decoding_tells_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: Calls = []
    real = PyavReader._decode_times
    monkeypatch.setattr(PyavReader, "_decode_times", lambda reader: decoded.append(reader.path) or real(reader))
    for count, frames in enumerate((24, 36), start=1):
        path = encode(tmp_path / "a.avi", frames=frames, codec="mpeg4")
        for _ in range(3):
            with open_video(path) as video:
                assert len(video) == len(video.timestamps_s) == frames
                assert not video.timestamps_s.flags.writeable
        assert len(decoded) == count
