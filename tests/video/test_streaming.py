"""One pass over a source that comes as it comes; files stand in for cameras and networks."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numbered_videos import number_of

from vidkd.base.errors import VideoError
from vidkd.video import open_stream, open_video, streaming

Made = Callable[[str], Path]


@pytest.mark.parametrize(
    "name", ["b_frames.mp4", "transport_at_100_s.ts", "edit_list.mp4", "variable.mkv", "quarter_left.mp4", "b_frames.avi"]
)
def test_stream_gives_what_a_reader_gives(made: Made, name: str) -> None:
    with open_stream(made(name)) as stream, open_video(made(name)) as video:
        for frame, expected in zip(stream, video.stream(), strict=True):
            assert frame.index == expected.index
            assert frame.time_s == pytest.approx(expected.time_s, abs=2e-3)
            np.testing.assert_array_equal(frame.image, expected.image)
        stream.close()
        assert list(stream) == []


def test_damaged_file_raises_where_the_damage_is(made: Made) -> None:
    with open_stream(made("damaged.mp4")) as stream:
        frames = iter(stream)
        assert [number_of(next(frames).image) for _ in range(48)] == list(range(48))
        with pytest.raises(VideoError, match="after frames : 48"):
            next(frames)


def test_damage_in_a_live_source_is_left_out(made: Made) -> None:
    with streaming.FrameStream(streaming.open_container(made("damaged.ts")), "udp://a", live=True) as stream:
        times_s = [frame.time_s for frame in stream]
    assert 55 < len(times_s) < 120
    assert (np.diff(times_s) > 0).all()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (0, {"source": "/dev/video0", "format": "v4l2"}),
        ("rtsp://host/live", {"source": "rtsp://host/live", "options": {"rtsp_transport": "tcp"}, "timeout": 10.0}),
        ("http://host/a.mp4", {"source": "http://host/a.mp4", "options": {}, "timeout": 10.0}),
    ],
)
def test_how_cameras_and_networks_are_opened(
    made: Made, monkeypatch: pytest.MonkeyPatch, source: int | str, expected: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {}
    opened = streaming.open_container

    def stand_in(path: str, **arguments: Any) -> Any:
        asked.update(source=path, **arguments)
        return opened(made("b_frames.mp4"))

    monkeypatch.setattr(streaming, "open_container", stand_in)
    monkeypatch.setattr(streaming.sys, "platform", "linux")
    with open_stream(source) as stream:
        assert number_of(next(iter(stream)).image) == 0
    assert asked == expected


@pytest.mark.parametrize(
    ("platform", "what", "lists"),
    [
        ("linux", "cannot open camera 97: /dev/video97", "v4l2-ctl"),
        ("darwin", "camera 97: 97", "avfoundation"),
        ("win32", "no numbers", "capture"),
    ],
)
def test_a_camera_that_is_not_there(platform: str, what: str, lists: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_device(name: str, **_: object) -> None:
        raise VideoError(f"cannot open video: {name}", reason="No such file or directory")

    monkeypatch.setattr(streaming, "open_container", no_device)
    monkeypatch.setattr(streaming.sys, "platform", platform)
    monkeypatch.setattr(streaming.Path, "glob", lambda self, pattern: [Path("/dev/video10"), Path("/dev/video2"), Path("/dev/video-dec0")])
    with pytest.raises(VideoError, match=what) as caught:
        open_stream(97)
    assert caught.value.lines.get("there are") == ("2, 10" if platform == "linux" else None)
    assert lists in caught.value.lines["fix"]


@pytest.mark.parametrize(("name", "options"), [("/dev/null", {}), ("0", {"format": "mov"})])
def test_a_device_is_not_taken_for_a_file(name: str, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS names cameras by numbers, as a file may be named too."""
    monkeypatch.chdir(tmp_path)
    Path("0").touch()
    with pytest.raises(VideoError, match="cannot open video") as caught:
        streaming.open_container(name, **options)
    assert "the file is empty" not in caught.value.lines["reason"]
    assert "fix" not in caught.value.lines


def test_times_rise_where_stamps_do_not(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def stamped(pts: int | None) -> Any:
        return SimpleNamespace(pts=pts, side_data={})

    monkeypatch.setattr(streaming, "RgbConverter", lambda threads: lambda frame: np.zeros((2, 2, 3), np.uint8))
    for stamps, expected in (((500, 540, 530, None, 700), [0.0, 0.04, 0.08, 0.12, 0.2]), ((None, None), [0.0, 0.04])):
        with open_stream(made("variable.mkv")) as stream:  # its clock counts milliseconds
            monkeypatch.setattr(stream, "_decoded", lambda stamps=stamps: map(stamped, stamps))
            assert [round(frame.time_s, 6) for frame in stream._read()] == expected
