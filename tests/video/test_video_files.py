"""Which files are videos."""

from pathlib import Path

import pytest

from vidkd.video.files import is_video_file, video_files


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.avi", True), ("a.MP4", True), ("a.b.vob", True), (".a.avi", False), ("a.flow.json", False), ("avi", False), ("a.png", False)],
)
def test_a_video_is_known_by_its_name(name: str, expected: bool) -> None:
    assert is_video_file(Path("folder", name)) is expected


def test_video_files_of_a_folder_and_below(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.AVI", "note.txt", "._a.avi", "sub/c.mkv", "sub/deep/d.webm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    assert [str(path.relative_to(tmp_path)) for path in video_files(tmp_path)] == ["a.AVI", "b.mp4"]
    assert [str(path.relative_to(tmp_path)) for path in video_files(tmp_path, deep=True)] == [
        "a.AVI",
        "b.mp4",
        "sub/c.mkv",
        "sub/deep/d.webm",
    ]
    assert video_files(tmp_path / "none") == []
