"""Opening a file with PyAV and taking decoded frames out of it, one after the other."""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vidkd.base.errors import VideoError
from vidkd.video.foreign import why_no_video
from vidkd.video.types import Image

NOMINAL_FPS = Fraction(25)
"""Assumed where a file names no frame rate at all."""


@contextlib.contextmanager
def opened(
    path: Path | str, *, threads: int = 1, options: dict[str, str] | None = None, format: str | None = None
) -> Iterator[tuple[Any, Any]]:
    """The container and its main video stream; closed on leaving. Raises VideoError if there is no such file or no video in it."""
    container = open_container(path, options=options, format=format)
    try:
        yield container, video_stream(container, path, threads)
    finally:
        container.close()


def open_container(
    path: Path | str, *, options: dict[str, str] | None = None, format: str | None = None, timeout_s: float | None = None
) -> Any:
    """A PyAV container open for reading. Raises VideoError with path and reason, of a file also with what it is instead of a video."""
    try:
        # titles in other encodings than UTF-8 are common in old AVI files and say nothing about the pictures
        return av.open(str(path), metadata_errors="ignore", options=options or {}, format=format, timeout=timeout_s)
    except (av.FFmpegError, OSError, ValueError) as error:
        file = format is None and Path(path).is_file()
        reason = (why_no_video(path) if file else None) or reason_of(error)
        hint = (
            {"hint": "the video itself, or another copy of it; `vidkd check_videos FOLDER` finds all that cannot be read"} if file else {}
        )
        raise VideoError(f"cannot open video: {path}", reason=reason, **hint) from error


def video_stream(container: Any, path: Path | str, threads: int) -> Any:
    """The stream that FFmpeg ranks best where a file holds several, which is not always the first."""
    stream = container.streams.best("video")
    if stream is None:
        raise VideoError(f"no video in: {path}", reason="the file holds no stream of pictures that this build can decode")
    if threads != 1:
        stream.thread_type = "AUTO"
    stream.thread_count = threads
    return stream


def decoded_frames(container: Any, stream: Any, path: Path | str, *, needed: Callable[[Any], bool] | None = None) -> Iterator[Any]:
    """Decoded PyAV frames in presentation order. Raises VideoError at the first damaged packet or picture, naming the frame.

    needed: whether the picture of a packet is; others are left out where no other picture depends on them.
    """
    count = 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise damaged(path, count, "a packet is damaged or cut off")
            if needed is not None:
                stream.codec_context.skip_frame = "DEFAULT" if needed(packet) else "NONREF"
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise damaged(path, count, "the picture is damaged")
                yield frame
                count += 1
    except (av.FFmpegError, OSError) as error:
        raise damaged(path, count, reason_of(error)) from error


class RgbConverter:
    """Converts decoded PyAV frames of one file, which share what is prepared for the conversion. threads: 0 for all cores."""

    def __init__(self, threads: int) -> None:
        self._reformatter = VideoReformatter()
        # from PyAV 17 on it would take all cores unless told otherwise, and starting threads costs more than converting a small picture
        self._threads: dict[str, Any] = {"threads": threads} if int(av.__version__.split(".")[0]) >= 17 else {}

    def __call__(self, frame: Any) -> Image:
        """The stored picture of a frame, uint8 RGB (H, W, 3)."""
        return np.asarray(self._reformatter.reformat(frame, format="rgb24", **self._threads).to_ndarray(), np.uint8)


def damaged(path: Path | str, frame: int, reason: str) -> VideoError:
    """The error for a file that stops being readable after `frame` frames."""
    return VideoError(f"cannot decode video: {path}", after_frames=frame, reason=reason)


def nominal_fps(stream: Any) -> Fraction:
    """The frame rate that the file names, else NOMINAL_FPS."""
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate) if rate else NOMINAL_FPS


def reason_of(error: BaseException) -> str:
    """FFmpeg's words without the path and the number around them."""
    return str(getattr(error, "strerror", None) or error)
