"""Frames as they come: cameras, network streams, and files read once from the beginning."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import av

from vidkd.base.errors import VideoError
from vidkd.video.containers import RgbConverter, damaged, no_such_video, nominal_fps, open_container, reason_of, video_stream
from vidkd.video.reader import check_frame_size, resized
from vidkd.video.types import MAX_PIXELS, Frame, orientation_of

CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


class FrameStream:
    """An iterator of frames, and a context manager; made by `open_stream`.

    damaged_count: packets and pictures of a live source that were left out because they were damaged.
    """

    def __init__(self, container: Any, source: str, *, live: bool, short_side: int | None, max_pixels: int, threads: int) -> None:
        self.source = source
        self.damaged_count = 0
        self._live, self._short_side = live, short_side
        self._container = container
        self._stream = video_stream(container, source, threads)
        check_frame_size(source, self._stream.codec_context.width, self._stream.codec_context.height, max_pixels)
        self._rgb = RgbConverter(threads)
        self._frames = self._read()

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def close(self) -> None:
        """Give the source back."""
        self._frames = iter(())
        self._container.close()

    def __enter__(self) -> "FrameStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _read(self) -> Iterator[Frame]:
        clock = _Clock(float(self._stream.time_base), float(1 / nominal_fps(self._stream)))
        for index, frame in enumerate(self._decoded()):
            image = orientation_of(frame).apply(self._rgb(frame))
            yield Frame(index=index, time_s=clock.time_s(frame.pts), image=resized(image, self._short_side))

    def _decoded(self) -> Iterator[Any]:
        count = 0
        try:
            for packet in self._container.demux(self._stream):
                for frame in self._pictures(packet, count):
                    yield frame
                    count += 1
        except (av.FFmpegError, OSError) as error:
            raise damaged(self.source, count, reason_of(error)) from error

    def _pictures(self, packet: Any, count: int) -> Iterator[Any]:
        """The sound pictures of a packet. A live source goes on after damage, since a lost datagram is no reason to stop."""
        try:
            frames = [] if packet.is_corrupt else packet.decode()
        except av.FFmpegError as error:
            if not self._live:
                raise damaged(self.source, count, reason_of(error)) from error
            self.damaged_count += 1
            return
        sound = [frame for frame in frames if not frame.is_corrupt]
        lost = packet.is_corrupt or len(sound) < len(frames)
        if lost and not self._live:
            raise damaged(self.source, count, "a packet or picture is damaged")
        self.damaged_count += lost
        yield from sound


class _Clock:
    """Seconds since the first frame, rising even where stamps are missing or go back."""

    def __init__(self, time_base_s: float, frame_s: float) -> None:
        self._time_base_s, self._frame_s = time_base_s, frame_s
        self._first: int | None = None
        self._last_s = -frame_s

    def time_s(self, pts: int | None) -> float:
        if self._first is None:
            self._first = pts
        stamped_s = (pts - self._first) * self._time_base_s if pts is not None and self._first is not None else -1.0
        self._last_s = stamped_s if stamped_s > self._last_s else self._last_s + self._frame_s
        return self._last_s


def open_stream(
    source: int | str | Path,
    *,
    short_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    threads: int = 1,
    timeout_s: float = 10.0,
    options: dict[str, str] | None = None,
) -> FrameStream:
    """Open a camera (its number), a network stream (`rtsp://…`, `http://…`) or a file, for one pass from now on.

    Frames are upright uint8 RGB, decoded one at a time with PyAV; nothing is known in advance, neither their number nor their times.
    timeout_s: how long a network source may keep silent. options: passed to FFmpeg (`{"video_size": "1280x720"}` for a camera).
    Damaged frames of a camera or network source are left out and counted; in a file they raise VideoError. So does a source that is
    missing, silent or too large.
    """
    name, camera_format = _camera(source) if isinstance(source, int) else (str(source), None)
    network = "://" in name
    if camera_format is None and not network and not Path(name).exists():
        raise no_such_video(name)
    defaults = {"rtsp_transport": "tcp"} if name.startswith("rtsp://") else {}
    try:
        container = open_container(
            name, options={**defaults, **(options or {})}, format=camera_format, timeout_s=timeout_s if network else None
        )
    except VideoError as error:
        if camera_format is None:
            raise
        raise _no_camera(source, name, camera_format, error.lines["reason"]) from error
    live = network or camera_format is not None
    try:
        return FrameStream(container, name, live=live, short_side=short_side, max_pixels=max_pixels, threads=threads)
    except VideoError:
        container.close()
        raise


def _no_camera(number: object, name: str, camera_format: str, reason: str) -> VideoError:
    """The error for a camera that cannot be opened: which there are, where that is told by names, and what lists them."""
    there = [path.name.removeprefix("video") for path in Path("/dev").glob("video*")] if camera_format == CAMERA_FORMATS["linux"] else []
    numbers = ", ".join(sorted((word for word in there if word.isdigit()), key=int))
    lists = {
        CAMERA_FORMATS["linux"]: "v4l2-ctl --list-devices",
        CAMERA_FORMATS["darwin"]: 'ffmpeg -f avfoundation -list_devices true -i ""',
    }[camera_format]
    return VideoError(
        f"cannot open camera {number}: {name}",
        reason=reason,
        **({"there_are": numbers or "no cameras"} if camera_format == CAMERA_FORMATS["linux"] else {}),
        hint=f"the number of a camera that is there (`{lists}` lists them with their names), or a video file",
    )


def _camera(number: int) -> tuple[str, str]:
    """Name and FFmpeg format of a camera on this system."""
    if sys.platform.startswith("linux"):
        return f"/dev/video{number}", CAMERA_FORMATS["linux"]
    if sys.platform == "darwin":
        return str(number), CAMERA_FORMATS["darwin"]
    raise VideoError(f"cameras have no numbers on {sys.platform}", hint="put a capture program in between and open its network stream")
