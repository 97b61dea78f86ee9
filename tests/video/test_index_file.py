"""The index of videos in one file: opening by it gives what reading the packets gives, and a changed file is read anew."""

import os
from pathlib import Path

import numpy as np
import pytest
from kinds_of_files import PLAIN, PYAV_ONLY
from numbered_videos import encode, numbers_of

from vidkd.base.errors import VideoError
from vidkd.video import index as index_module
from vidkd.video import open_video, opening
from vidkd.video.index import index_record, read_packets, stored_index, use_index_file, write_index_file


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_stored", {})
    use_index_file.cache_clear()


@pytest.mark.parametrize("name", [*PLAIN, *PYAV_ONLY, "quarter_left.mp4", "cut_between_packets.mp4"])
def test_a_record_is_the_index_that_the_packets_give(made, name: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = made(name)
    write_index_file(tmp_path / "m.index", {path.name: index_record(path)})
    use_index_file(tmp_path / "m.index", path.parent)
    found, expected = stored_index(str(path), path.stat()), read_packets(path)
    assert found is not None
    for field in vars(expected):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)
    assert not found.pts.flags.writeable


def test_a_file_with_a_record_is_opened_without_reading_its_packets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", frames=24)
    write_index_file(tmp_path / "m.index", {"a.mp4": index_record(path)})
    use_index_file(tmp_path / "m.index", tmp_path)
    looks: list[str] = []
    monkeypatch.setattr(opening, "read_packets", lambda name: looks.append(name) or read_packets(name))
    with open_video(path) as video:
        assert numbers_of(video.frames_at_indices([20, 3])) == [20, 3]
    assert looks == []
    os.utime(path, ns=(5, 6))
    with open_video(path) as video:
        assert len(video) == 24
    assert looks == [str(path)]


def test_without_an_index_file_and_with_another_file_in_its_place(tmp_path: Path) -> None:
    use_index_file(tmp_path / "none.index", tmp_path)
    (tmp_path / "text.index").write_text("text")
    with pytest.raises(VideoError, match=r"not an index of videos: .*text\.index"):
        use_index_file(tmp_path / "text.index", tmp_path)
