"""Opening a file with PyAV, decoding it in order, and what is wrong with a file: what it is instead of a video, what is missing of it."""

import codecs
import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vidkd.base.errors import VideoError
from vidkd.video.reader import MAX_PIXELS, Image

NOMINAL_FPS = Fraction(25)
"""Assumed where a file names no frame rate at all."""


@contextlib.contextmanager
def opened(path: Path | str, *, threads: int = 1) -> Iterator[tuple[Any, Any]]:
    """The container and its main video stream; closed on leaving. Raises VideoError if there is no such file or no video in it."""
    container = open_container(path)
    try:
        yield container, video_stream(container, path, threads)
    finally:
        container.close()


def open_container(path: Path | str, **options: Any) -> Any:
    """A PyAV container open for reading; options: of `av.open`.

    Raises VideoError with path and reason, of a file also with what it is instead of a video.
    """
    try:
        # titles in other encodings than UTF-8 are common in old AVI files and say nothing about the pictures
        return av.open(str(path), metadata_errors="ignore", **options)
    except (av.FFmpegError, OSError, ValueError) as error:
        if "format" in options or not Path(path).is_file():  # a camera, whose name may be a file's too, or an address
            raise VideoError(f"cannot open video: {path}", reason=reason_of(error)) from error
        hint = "the video itself, or another copy of it; `vidkd prepare_data check FOLDER` finds all that cannot be read"
        raise VideoError(f"cannot open video: {path}", reason=why_no_video(path) or reason_of(error), hint=hint) from error


def video_stream(container: Any, path: Path | str, threads: int = 1) -> Any:
    """The stream that FFmpeg ranks best where a file holds several, which is not always the first."""
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:  # a broken header may name a codec that does not exist
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
        # from PyAV 17 on it would take all cores by default, and starting threads costs more than converting a small picture
        self._threads: dict[str, Any] = {"threads": threads} if int(av.__version__.split(".")[0]) >= 17 else {}

    def __call__(self, frame: Any) -> Image:
        """The stored picture of a frame, uint8 RGB (H, W, 3)."""
        return np.asarray(self._reformatter.reformat(frame, format="rgb24", **self._threads).to_ndarray(), np.uint8)


def check_frame_size(path: Path | str, width: int, height: int) -> None:
    """Raises VideoError if a frame has more pixels than allowed, or none, before one is decoded."""
    if not 0 < width * height <= MAX_PIXELS:
        raise VideoError(f"frames too large, or without a size: {path}", size=f"{width} x {height}", limit=f"{MAX_PIXELS} pixels")


def damaged(path: Path | str, frame: int, reason: str) -> VideoError:
    """The error for a file that stops being readable after `frame` frames."""
    return VideoError(f"cannot decode video: {path}", after_frames=frame, reason=reason)


def nominal_fps(stream: Any) -> Fraction:
    """The frame rate that the file names, else NOMINAL_FPS."""
    return Fraction(stream.average_rate or stream.guessed_rate or NOMINAL_FPS)


def reason_of(error: BaseException) -> str:
    """FFmpeg's words without the path and the number around them."""
    return str(getattr(error, "strerror", None) or error)


BEGINNING_BYTES = 4096
SHOWN_LETTERS = 60


def no_such_video(name: str) -> VideoError:
    """The error for a path at which there is no file."""
    hint = "name a file that is there, a folder of images, or a glob in quotes"
    if name.removeprefix("/dev/video").isdigit():
        hint = f"a camera is named by its number, here {name.removeprefix('/dev/video')}"
    return VideoError(f"no such video: {name}", **({} if Path(name).is_absolute() else {"looked_in": Path.cwd()}), hint=hint)


def why_no_video(path: Path | str) -> str | None:
    """A sentence if the first bytes of a file, or its outermost boxes, tell why it is no video; None for all else, as for no file."""
    try:
        with Path(path).open("rb") as file:
            beginning = file.read(BEGINNING_BYTES)
            whole = beginning[4:8] != b"ftyp" or _has_whole_index(file)
    except OSError:
        return None
    if not beginning:
        return "the file is empty"
    if not beginning.strip(b"\0"):
        return f"its first {len(beginning)} bytes are zero, as of a download that was not finished"
    if (line := _first_line(beginning)) is not None:
        return f"it is text, not a video, and begins: {line}"
    return None if whole else "the file was cut off: the table of its frames (moov), which MP4 may have at its end, is not whole"


def _first_line(beginning: bytes) -> str | None:
    """The first line with something in it, shortened, if all of this is text in UTF-8."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(beginning)  # a letter may be cut at the end
    except UnicodeDecodeError:
        return None
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= SHOWN_LETTERS else line[: SHOWN_LETTERS - 3] + "..."


def _has_whole_index(file: IO[bytes]) -> bool:
    """Whether the outermost boxes of an MP4 hold its table of frames, whole, or something else ends them before the file does."""
    size: int
    place, end = 0, file.seek(0, os.SEEK_END)
    while place + 8 <= end:
        file.seek(place)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:  # the size follows the kind, in 64 bits
            size = int.from_bytes(file.read(8), "big")
        if kind == b"moov" or 0 < size < 8:
            return place + size <= end
        place += size or end  # 0: the last box, as long as the file
    return False


MOST_BYTES_BETWEEN = 1024
"""In Matroska the headers between two packets are some thirty bytes; a lost cluster is thousands."""


def missing_part(path: Path | str, found_s: float) -> str | None:
    """A sentence if a file whose pictures last `found_s` seconds ends before its header says, or has a hole; else None.

    MP4 lists all its packets, so `read_packets` has counted them; here it is about the other containers.
    """
    with opened(path) as (container, stream):
        declared_s = None  # where the header speaks of something else: other streams too, or hidden frames
        if "mp4" not in container.format.name.split(","):
            if stream.duration is not None:
                declared_s = float(stream.duration * stream.time_base)
            elif len(container.streams) == 1 and container.duration is not None:
                declared_s = float(container.duration / av.time_base)
        if declared_s is not None and declared_s - found_s > max(0.2, 0.02 * declared_s):  # sound headers are off by a few frames
            return f"the file ends early: its header promises {declared_s:.2f} s, {found_s:.2f} s are there"
        # FFmpeg skips what it cannot parse of a Matroska file, to the next cluster, in silence: look for bytes that no packet has
        end: int | None = None
        for packet in container.demux() if "matroska" in container.format.name else ():
            if not packet.size or packet.pos is None:
                continue
            if end is not None and packet.pos - end > MOST_BYTES_BETWEEN:
                return f"{packet.pos - end} bytes in the middle of the file cannot be parsed, frames are missing"
            end = packet.pos + packet.size
    return None
