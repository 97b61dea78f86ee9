"""What is said of files that are no video, and of sources that are not there."""

from pathlib import Path

import numpy as np
import pytest
from numbered_videos import cut, encode

from vidkd.base.errors import VideoError
from vidkd.video import check_video, open_stream, open_video, streaming, write_video
from vidkd.video.containers import why_no_video


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


def test_an_mp4_without_its_table_was_cut_off(tmp_path: Path) -> None:
    """The table stands behind the pictures, unless it was moved to the front."""
    at_end, at_front = encode(tmp_path / "end.mp4"), tmp_path / "front.mp4"
    write_video(at_front, np.zeros((9, 48, 64, 3), np.uint8), fps=25)
    assert why_no_video(at_end) is None
    cut(at_front, 0.9)
    for fraction in (0.9, 0.3):  # in the middle of the table, and before it
        cut(at_end, fraction)
        assert str(why_no_video(at_end)).startswith("the file was cut off")
    assert why_no_video(at_front) is None
    with pytest.raises(VideoError, match=r"cannot open video: .*end\.mp4\n  reason : the file was cut off(.|\n)*vidkd check_videos"):
        open_video(at_end)
    assert str(check_video(at_end).first_error).startswith("cannot open video: the file was cut off"), "check_videos says so too"


def test_without_a_guess_the_decoder_speaks(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(np.random.default_rng(0).integers(0, 255, 5000, dtype=np.uint8)))
    with pytest.raises(VideoError, match=r"reason : Invalid data found(.|\n)*fix    : the video itself, or another copy"):
        open_video(tmp_path / "a.mp4")
    (empty := tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match=r"empty file(.|\n)*fix : fetch it again"):
        open_video(empty)


def test_sources_that_are_not_there_are_told_how_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for opens in (open_video, open_stream):
        with pytest.raises(VideoError, match="no such video: nope") as caught:
            opens("nope.mp4")
        assert caught.value.lines["looked in"] == str(tmp_path)
        assert "a folder of images" in caught.value.lines["fix"]
        with pytest.raises(VideoError, match="a camera is named by its number, here 97"):
            opens("/dev/video97")


@pytest.mark.parametrize(
    ("platform", "what", "lists"),
    [("linux", "cannot open camera 97: /dev/video97", "v4l2-ctl"), ("darwin", "camera 97: 97", "avfoundation")],
)
def test_a_camera_that_is_not_there(platform: str, what: str, lists: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_device(name: str, **_: object) -> None:
        raise VideoError(f"cannot open video: {name}", reason="No such file or directory")

    monkeypatch.setattr(streaming, "open_container", no_device)
    monkeypatch.setattr(streaming.sys, "platform", platform)
    monkeypatch.setattr(streaming.Path, "glob", lambda self, pattern: [Path("/dev/video10"), Path("/dev/video2"), Path("/dev/video-dec0")])
    with pytest.raises(VideoError, match=what) as caught:
        open_stream(97)
    assert caught.value.lines["reason"] == "No such file or directory"
    assert caught.value.lines.get("there are") == ("2, 10" if platform == "linux" else None)
    assert lists in caught.value.lines["fix"]
