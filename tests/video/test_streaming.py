"""One pass over a source that comes as it comes; files stand in for cameras and networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numbered_videos import VARIABLE_TIMES_S, number_of

from vidkd.base.errors import VideoError
from vidkd.video import open_stream, open_video, streaming

Made = Callable[[str], Path]


@pytest.mark.parametrize(
    "name", ["b_frames.mp4", "transport_at_100_s.ts", "edit_list.mp4", "variable.mkv", "quarter_left.mp4", "b_frames.avi"]
)
def test_stream_gives_what_a_reader_gives(made: Made, name: str) -> None:
    with open_stream(made(name)) as stream, open_video(made(name), backend="pyav") as video:
        for frame, expected in zip(stream, video.stream(), strict=True):
            assert frame.index == expected.index
            assert frame.time_s == pytest.approx(expected.time_s, abs=2e-3)
            np.testing.assert_array_equal(frame.image, expected.image)


def test_times_are_those_of_the_file(made: Made) -> None:
    with open_stream(made("variable.mp4"), short_side=32) as stream:
        frames = list(stream)
    np.testing.assert_allclose([frame.time_s for frame in frames], VARIABLE_TIMES_S, atol=1e-9)
    assert frames[0].image.shape == (32, 48, 3)


def test_damaged_file_raises_where_the_damage_is(made: Made) -> None:
    with open_stream(made("damaged.mp4")) as stream:
        frames = iter(stream)
        assert [number_of(next(frames).image) for _ in range(48)] == list(range(48))
        with pytest.raises(VideoError, match="after frames : 48"):
            next(frames)


def test_damage_in_a_live_source_is_left_out_and_counted(made: Made) -> None:
    container = streaming.open_container(made("damaged.ts"))
    with streaming.FrameStream(container, "udp://a", live=True, short_side=None, max_pixels=10**6, threads=1) as stream:
        times_s = [frame.time_s for frame in stream]
        assert stream.damaged_count >= 1
    assert 55 < len(times_s) < 120
    assert (np.diff(times_s) > 0).all()


def test_closed_stream_ends(made: Made) -> None:
    stream = open_stream(made("b_frames.mp4"))
    frames = iter(stream)
    next(frames)
    stream.close()
    assert list(stream) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (0, {"source": "/dev/video0", "format": "v4l2", "options": {}, "timeout_s": None}),
        ("rtsp://host/live", {"source": "rtsp://host/live", "format": None, "options": {"rtsp_transport": "tcp"}, "timeout_s": 3.0}),
        ("http://host/a.mp4", {"source": "http://host/a.mp4", "format": None, "options": {}, "timeout_s": 3.0}),
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
    with open_stream(source, timeout_s=3.0) as stream:
        assert number_of(next(iter(stream)).image) == 0
    assert asked == expected


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such video"):
        open_stream(tmp_path / "missing.mp4")
    with pytest.raises(VideoError, match="cannot open video"):
        open_stream("rtsp://127.0.0.1:9/live", timeout_s=2.0)


def test_too_large(made: Made) -> None:
    with pytest.raises(VideoError, match="too large"):
        open_stream(made("b_frames.mp4"), max_pixels=100)


def test_clock_rises_where_stamps_do_not() -> None:
    clock = streaming._Clock(0.001, 0.04)
    assert [round(clock.time_s(pts), 6) for pts in (500, 540, 530, None, 700)] == [0.0, 0.04, 0.08, 0.12, 0.2]
    clock = streaming._Clock(0.001, 0.04)
    assert [round(clock.time_s(pts), 6) for pts in (None, None)] == [0.0, 0.04]
