"""Writing frames as a video file, whole or not at all, and joining parts without encoding again."""

import contextlib
import itertools
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from vidkd.base.errors import WRITE_FIX, VideoError
from vidkd.video.containers import opened, reason_of
from vidkd.video.reader import Image

KEEPS_TIMES = (".mp4", ".m4v", ".mov", ".mkv")
"""Endings of files that take H.264 and give every frame back at its time; AVI has one rate, and moves frames of a variable one."""

VARIABLE_TIME_BASE = Fraction(1, 90_000)
GOP_FRAMES = 12
"""A key frame at least this often: reading one frame decodes at most as many."""

VIEWING_CRF = 23
"""Of videos for people to look at: less work and two thirds of the size of 18, with which frames are kept that networks read again."""

SAME_ON_EVERY_RUN = "lookahead-threads=1:mbtree=0"
"""Of small pictures (80x80) macroblock trees have come out differently on 4 of 100 runs of x264's AVX-512 code."""

BT601_LIMITED = 6  # AVCOL_SPC_SMPTE170M: what the conversion from RGB produces; players guess BT.709 for large pictures without it
BIT_EXACT = {"fflags": "+bitexact"}
INDEX_IN_FRONT = {"movflags": "+faststart"}


class VideoWriter:
    """Encode frames one by one; the file appears under its name when the context ends without an error.

    path: one of `KEEPS_TIMES` by its ending; others that FFmpeg knows may move frames in time. An existing file is replaced.
    fps: frames a second, or the nominal rate if times are given to `write`.
    crf: quality of libx264, 0 to 51, lower is better. lossless: libx264 in RGB, every frame a key frame, bit-exact.
    The first frame decides the size; odd sides are kept by encoding without chroma subsampling (yuv444p), nothing is padded or cut.
    No B-frames, and the same decoded frames on every run of one library version.
    Raises VideoError for a suffix that FFmpeg does not know, frames of another size or type, times that do not rise, no frame.
    """

    def __init__(self, path: Path | str, *, fps: float | Fraction, crf: int = 18, lossless: bool = False) -> None:
        self.path = Path(path)
        self._rate, self._crf, self._lossless = Fraction(fps).limit_denominator(1001), crf, lossless
        # in the same folder, as a rename is atomic only there, and with the suffix, by which FFmpeg knows the container
        self._temporary = self.path.with_name(f".{self.path.stem}.{secrets.token_hex(4)}.tmp{self.path.suffix}")
        self._variable, self._last_stamp = False, -1
        self._shape: tuple[int, ...] = ()
        self._container: Any = None
        self._stream: Any = None

    def write(self, image: Image, time_s: float | None = None) -> None:
        """Append a uint8 RGB frame (H, W, 3); `time_s` is when it appears (from 0, rising): for all frames or for none."""
        with _encoder_errors(self.path):
            if self._stream is None:
                self._variable, self._shape = time_s is not None, image.shape
                self._open(*image.shape[:2])
            if image.dtype != np.uint8 or image.shape != self._shape or image.shape[2:] != (3,):
                raise VideoError(
                    f"cannot write frame to: {self.path}", expected=f"uint8 {self._shape}", found=f"{image.dtype} {image.shape}"
                )
            stamp = self._last_stamp + 1 if time_s is None else round(time_s / VARIABLE_TIME_BASE)
            if self._variable != (time_s is not None) or stamp <= self._last_stamp:
                reason = f"times must be given for all frames or for none, and rise from 0 by at least 1/90000 s: {time_s} s"
                raise VideoError(f"cannot write frame to: {self.path}", reason=reason)
            self._last_stamp = stamp
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = stamp, self._stream.codec_context.time_base
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file and give it its name. Raises VideoError if no frame was written."""
        if self._stream is None:
            raise VideoError(f"no frame was written to: {self.path}")
        try:
            with _encoder_errors(self.path):
                self._container.mux(self._stream.encode(None))
                self._container.close()
                _publish(self._temporary, self.path)
        except VideoError:
            self.abort()
            raise

    def abort(self) -> None:
        """Drop what was written; a file that was there under the name stays as it was."""
        with contextlib.suppress(av.FFmpegError, OSError):  # on a full disk it cannot write its end either
            if self._container is not None:
                self._container.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _open(self, height: int, width: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        in_front = INDEX_IN_FRONT if self.path.suffix.lower() in (".mp4", ".mov", ".m4v") else {}
        self._container = av.open(str(self._temporary), "w", options={**BIT_EXACT, **in_front})
        codec, crf, pixels = "libx264", self._crf, "yuv444p" if width % 2 or height % 2 else "yuv420p"
        if self._lossless:
            codec, crf, pixels = "libx264rgb", 0, "rgb24"
        options = {"crf": str(crf), "preset": "veryfast", "bf": "0", "x264-params": SAME_ON_EVERY_RUN}
        stream = self._container.add_stream(codec, rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        context = stream.codec_context
        context.time_base = stream.time_base = VARIABLE_TIME_BASE if self._variable else 1 / self._rate
        context.gop_size, context.thread_count = 1 if self._lossless else GOP_FRAMES, 1
        if not self._lossless:
            context.colorspace = BT601_LIMITED
        self._stream = stream


def write_video(
    path: Path | str,
    frames: Iterable[Image],
    *,
    fps: float | Fraction,
    crf: int = 18,
    times_s: Sequence[float] | None = None,
    lossless: bool = False,
) -> None:
    """Write uint8 RGB frames (H, W, 3) of one size; see VideoWriter for the arguments, the guarantees and the errors.

    times_s: when each frame appears, for a variable frame rate; as many as frames (ValueError).
    """
    times = itertools.repeat(None) if times_s is None else times_s
    with VideoWriter(path, fps=fps, crf=crf, lossless=lossless) as writer:
        for image, time_s in zip(frames, times, strict=times_s is not None):
            writer.write(image, None if time_s is None else float(time_s))


@contextlib.contextmanager
def _encoder_errors(path: Path) -> Iterator[None]:
    """What FFmpeg or the system refuse to write becomes a VideoError."""
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"cannot write video: {path}", reason=reason_of(error), hint=WRITE_FIX) from error


def _publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name; on the disk first, or a power cut after the rename can leave an empty file under it."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def join_videos(path: Path | str, parts: Iterable[tuple[Path, Sequence[float]]], *, fps: float) -> int:
    """Write the packets of all parts into one MP4 file, whole or not at all; returns the frames.

    parts: files as `VideoWriter` makes them with one set of arguments, so that frames lie in the order in which they are shown, each with
    the times in seconds of its frames in the whole, rising from 0. fps: the last frame of each part declares the length 1 / fps.
    Raises VideoError if there is no part, a part has another number of frames, was encoded in another way, or a file cannot be read or
    written.
    """
    path, count, target, how = Path(path), 0, None, b""
    temporary = path.with_name(f".{path.stem}.joining{path.suffix}")
    last_ticks = max(1, round(1 / fps / VARIABLE_TIME_BASE))
    try:
        with _encoder_errors(path):
            with av.open(str(temporary), "w", options={**BIT_EXACT, **INDEX_IN_FRONT}) as container:
                for part, times_s in parts:
                    with opened(part) as (source, stream):
                        if target is None:
                            target, how = container.add_stream_from_template(stream), _extradata(stream)
                            target.time_base = VARIABLE_TIME_BASE
                        if _extradata(stream) != how:
                            raise VideoError(f"encoded in another way than the parts before it: {part}", hint="start again")
                        count += _copy(source, stream, target, container, times_s, last_ticks, part)
                if not count:
                    raise VideoError(f"no frame was written to: {path}")
            _publish(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return count


def _copy(source: Any, stream: Any, target: Any, container: Any, times_s: Sequence[float], last_ticks: int, part: Path) -> int:
    ticks = [round(time_s / VARIABLE_TIME_BASE) for time_s in times_s]
    ticks += [ticks[-1] + last_ticks] if ticks else []
    packets = [packet for packet in source.demux(stream) if packet.size]
    if len(packets) != len(times_s):
        raise VideoError(f"{len(packets)} frames instead of {len(times_s)} in: {part}")
    for packet, tick, end in zip(packets, ticks, ticks[1:], strict=False):
        packet.stream, packet.time_base = target, VARIABLE_TIME_BASE
        packet.pts = packet.dts = tick
        packet.duration = end - tick
        container.mux(packet)
    return len(packets)


def _extradata(stream: Any) -> bytes:
    return bytes(stream.codec_context.extradata or b"")
