"""Frames as they come: cameras, network streams, and files read once from the beginning."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import av

from vidkd.base.errors import VideoError
from vidkd.video.containers import (
    RgbConverter,
    check_frame_size,
    damaged,
    no_such_video,
    nominal_fps,
    open_container,
    reason_of,
    video_stream,
)
from vidkd.video.reader import Frame, orientation_of

CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation"}
LIST_CAMERAS = {"linux": "v4l2-ctl --list-devices", "darwin": 'ffmpeg -f avfoundation -list_devices true -i ""'}
SILENCE_S = 10.0
"""How long a network source may keep silent."""


class FrameStream:
    """An iterator of frames, and a context manager; made by `open_stream`."""

    def __init__(self, container: Any, source: str, *, live: bool) -> None:
        self._source, self._live, self._container = source, live, container
        self._stream = video_stream(container, source)
        check_frame_size(source, self._stream.codec_context.width, self._stream.codec_context.height)
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
        """Frames at seconds since the first one, rising even where stamps are missing or go back."""
        time_base_s, frame_s, rgb = float(self._stream.time_base), float(1 / nominal_fps(self._stream)), RgbConverter(threads=1)
        first, time_s = None, -frame_s
        for index, frame in enumerate(self._decoded()):
            first = frame.pts if first is None else first
            stamped_s = -1.0 if frame.pts is None else (frame.pts - first) * time_base_s
            time_s = stamped_s if stamped_s > time_s else time_s + frame_s
            yield Frame(index=index, time_s=time_s, image=orientation_of(frame).apply(rgb(frame)))

    def _decoded(self) -> Iterator[Any]:
        """The sound pictures. A live source continues after damage, since a lost datagram is no reason to stop."""
        count = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = [] if packet.is_corrupt else packet.decode()
                except av.FFmpegError:
                    if not self._live:
                        raise
                    continue
                sound = [frame for frame in frames if not frame.is_corrupt]
                if not self._live and (packet.is_corrupt or len(sound) < len(frames)):
                    raise damaged(self._source, count, "a packet or picture is damaged")
                yield from sound
                count += len(sound)
        except (av.FFmpegError, OSError) as error:
            raise damaged(self._source, count, reason_of(error)) from error


def open_stream(source: int | str | Path) -> FrameStream:
    """Open a camera (its number), a network stream (`rtsp://…`, `http://…`) or a file, for one pass from now on.

    Frames are upright uint8 RGB, decoded one at a time with PyAV; nothing is known in advance, neither their number nor their times.
    Damaged frames of a camera or network source are left out; in a file they raise VideoError. So does a source that is
    missing, silent or too large.
    """
    if isinstance(source, int):
        name, container = _open_camera(source)
    else:
        name = str(source)
        if "://" not in name and not Path(name).exists():
            raise no_such_video(name)
        options = {"rtsp_transport": "tcp"} if name.startswith("rtsp://") else {}
        container = open_container(name, options=options, timeout=SILENCE_S if "://" in name else None)
    try:
        return FrameStream(container, name, live=isinstance(source, int) or "://" in name)
    except VideoError:
        container.close()
        raise


def _open_camera(number: int) -> tuple[str, Any]:
    """Name and container of a camera. The error for one that is not there says which are, where that is known, and what lists them."""
    if sys.platform not in CAMERA_FORMATS:
        hint = "put a capture program in between and open its network stream"
        raise VideoError(f"cameras have no numbers on {sys.platform}", hint=hint)
    name = f"/dev/video{number}" if sys.platform == "linux" else str(number)
    try:
        return name, open_container(name, format=CAMERA_FORMATS[sys.platform])
    except VideoError as error:
        there = sorted(int(word) for path in Path("/dev").glob("video*") if (word := path.name.removeprefix("video")).isdigit())
        raise VideoError(
            f"cannot open camera {number}: {name}",
            reason=error.lines["reason"],
            **({"there_are": ", ".join(map(str, there)) or "no cameras"} if sys.platform == "linux" else {}),
            hint=f"the number of a camera that is there (`{LIST_CAMERAS[sys.platform]}` lists them with their names), or a video file",
        ) from error
