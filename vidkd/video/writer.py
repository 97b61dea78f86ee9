"""Writing frames as a video file, whole or not at all, and joining parts without encoding again."""

import contextlib
import itertools
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from vidkd.base.errors import WRITE_FIX, VideoError
from vidkd.video.containers import opened, reason_of
from vidkd.video.types import Image

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


class VideoWriter:
    """Encode frames one by one; the file appears under its name when the context ends without an error.

    path: one of `KEEPS_TIMES` by its ending; others that FFmpeg knows may move frames in time. An existing file is replaced.
    fps: frames a second, or the nominal rate if times are given to `write`.
    width, height: pixels; odd ones are kept by encoding without chroma subsampling (yuv444p), nothing is padded or cut.
    crf: quality of libx264 and libx265, 0 to 51, lower is better. lossless: libx264 in RGB, every frame a key frame, bit-exact.
    gop: largest distance of key frames. No B-frames and, with threads=1, the same decoded frames on every run of one library version.
    Raises VideoError for a codec or suffix that the PyAV build lacks, frames of another size or type, times that do not rise, no frame.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fps: float | Fraction,
        width: int,
        height: int,
        codec: str = "libx264",
        crf: int = 18,
        lossless: bool = False,
        gop: int = GOP_FRAMES,
        threads: int = 1,
    ) -> None:
        if fps <= 0 or width < 1 or height < 1:
            raise VideoError(f"cannot write video: {path}", reason=f"{width} x {height} at {fps} frames a second")
        self.path = Path(path)
        self._rate = Fraction(fps).limit_denominator(1001)
        self._width, self._height = width, height
        self._codec, self._gop = ("libx264rgb", 1) if lossless else (codec, gop)
        self._options = _encoder_options(self._codec, 0 if lossless else crf, threads)
        self._threads = threads
        self._variable: bool | None = None
        self._last_stamp = -1
        self._temporary = temporary_beside(self.path)
        self._container: Any = None
        self._stream: Any = None

    def write(self, image: Image, time_s: float | None = None) -> None:
        """Append a uint8 RGB frame (H, W, 3); `time_s` is when it appears (from 0, rising): for all frames or for none."""
        if image.dtype != np.uint8 or image.shape != (self._height, self._width, 3):
            found = f"{image.dtype} {image.shape}"
            raise VideoError(f"cannot write frame to: {self.path}", expected=f"uint8 ({self._height}, {self._width}, 3)", found=found)
        stamp = self._stamp(time_s)
        try:
            if self._stream is None:
                self._open()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = stamp, self._time_base
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"cannot write video: {self.path}", codec=self._codec, reason=reason_of(error), hint=WRITE_FIX) from error

    def close(self) -> None:
        """Finish the file and give it its name. Raises VideoError if no frame was written."""
        if self._stream is None:
            self.abort()
            raise VideoError(f"no frame was written to: {self.path}")
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            to_disk(self._temporary)
            os.replace(self._temporary, self.path)
        except (av.FFmpegError, OSError) as error:
            self.abort()
            raise VideoError(f"cannot finish video: {self.path}", reason=reason_of(error), hint=WRITE_FIX) from error

    def abort(self) -> None:
        """Drop what was written; a file that stood under the name stays as it was."""
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(av.FFmpegError, OSError):  # on a full disk it cannot write its end either
                container.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    @property
    def _time_base(self) -> Fraction:
        return VARIABLE_TIME_BASE if self._variable else 1 / self._rate

    def _stamp(self, time_s: float | None) -> int:
        if self._variable is None:
            self._variable = time_s is not None
        if self._variable != (time_s is not None):
            raise VideoError(f"cannot write frame to: {self.path}", reason="times must be given for all frames or for none")
        stamp = self._last_stamp + 1 if time_s is None else round(time_s / VARIABLE_TIME_BASE)
        if stamp <= self._last_stamp:
            raise VideoError(
                f"cannot write frame to: {self.path}", reason=f"the time {time_s} s does not rise (from 0, by at least 1/90000 s)"
            )
        self._last_stamp = stamp
        return stamp

    def _open(self) -> None:
        suffix = self.path.suffix.lower()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        options = {"fflags": "+bitexact", **({"movflags": "+faststart"} if suffix in (".mp4", ".mov", ".m4v") else {})}
        self._container = av.open(str(self._temporary), "w", options=options)
        stream = self._container.add_stream(self._codec, rate=self._rate, options=self._options)
        stream.width, stream.height = self._width, self._height
        stream.codec_context.time_base = stream.time_base = self._time_base
        stream.codec_context.gop_size = self._gop
        stream.codec_context.thread_count = self._threads
        stream.pix_fmt = _pixel_format(self._codec, self._width, self._height)
        if stream.pix_fmt.startswith("yuv"):
            stream.codec_context.colorspace = BT601_LIMITED
        self._stream = stream


def write_video(
    path: Path | str,
    frames: Iterable[Image],
    *,
    fps: float | Fraction,
    codec: str = "libx264",
    crf: int = 18,
    times_s: Sequence[float] | None = None,
    lossless: bool = False,
    gop: int = GOP_FRAMES,
    threads: int = 1,
) -> None:
    """Write uint8 RGB frames (H, W, 3) of one size; see VideoWriter for the arguments, the guarantees and the errors.

    times_s: when each frame appears, for a variable frame rate; as many as frames.
    """
    first, images = _peek(frames)
    if first is None:
        raise VideoError(f"no frame was written to: {path}")
    height, width = first.shape[:2]
    count = 0
    with VideoWriter(
        path, fps=fps, width=width, height=height, codec=codec, crf=crf, lossless=lossless, gop=gop, threads=threads
    ) as writer:
        for image in images:
            if times_s is not None and count == len(times_s):
                raise VideoError(f"cannot write video: {path}", frames=f"more than {count}", times=len(times_s))
            writer.write(image, None if times_s is None else float(times_s[count]))
            count += 1
        if times_s is not None and count < len(times_s):
            raise VideoError(f"cannot write video: {path}", frames=count, times=len(times_s))


def _peek(frames: Iterable[Image]) -> tuple[Image | None, Iterable[Image]]:
    """The first frame, and all of them."""
    remaining = iter(frames)
    first = next(remaining, None)
    return first, remaining if first is None else itertools.chain([first], remaining)


def _encoder_options(codec: str, crf: int, threads: int) -> dict[str, str]:
    if codec in ("libx264", "libx264rgb"):
        alone = {"x264-params": SAME_ON_EVERY_RUN} if threads == 1 else {}
        return {"crf": str(crf), "preset": "veryfast", "bf": "0", **alone}
    if codec == "libx265":
        return {"crf": str(crf), "preset": "fast", "x265-params": "bframes=0:log-level=error:pools=none:frame-threads=1"}
    return {}


def _pixel_format(codec: str, width: int, height: int) -> str:
    if codec == "libx264rgb":
        return "rgb24"
    return "yuv420p" if width % 2 == 0 and height % 2 == 0 else "yuv444p"


def temporary_beside(path: Path) -> Path:
    """A name in the same folder (a rename is atomic only there) that keeps the suffix, by which FFmpeg knows the container."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")


def to_disk(path: Path) -> None:
    """Without this a power cut after the rename can leave an empty file under the name."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


BIT_EXACT = {"fflags": "+bitexact", "movflags": "+faststart"}


def join_videos(path: Path | str, parts: Iterable[tuple[Path, Sequence[float]]], *, fps: float) -> int:
    """Write the packets of all parts into one MP4 file, whole or not at all; returns the frames.

    parts: files as `VideoWriter` makes them with one set of arguments, so that frames lie in the order in which they are shown, each with
    the times in seconds of its frames in the whole, rising from 0. fps: the last frame of each part declares the length 1 / fps.
    Raises VideoError if there is no part, a part has another number of frames, was encoded in another way, or a file cannot be read or
    written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.joining{path.suffix}")
    try:
        frames = _join(temporary, parts, max(1, round(1 / fps / VARIABLE_TIME_BASE)))
        to_disk(temporary)
        os.replace(temporary, path)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"cannot write video: {path}", reason=reason_of(error), hint=WRITE_FIX) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return frames


def _join(path: Path, parts: Iterable[tuple[Path, Sequence[float]]], last_ticks: int) -> int:
    count, target, how = 0, None, b""
    with av.open(str(path), "w", options=BIT_EXACT) as container:
        for part, times_s in parts:
            with opened(part) as (source, stream):
                if target is None:
                    target, how = container.add_stream_from_template(stream), _extradata(stream)
                    target.time_base = VARIABLE_TIME_BASE
                if _extradata(stream) != how:
                    raise VideoError(f"encoded in another way than the parts before it: {part}", hint="begin anew")
                count += _copy(source, stream, target, container, _stamps(times_s, last_ticks), part)
        if not count:
            raise VideoError(f"no frame was written to: {path}")
    return count


def _copy(source: Any, stream: Any, target: Any, container: Any, stamps: Iterator[tuple[int, int]], part: Path) -> int:
    count = 0
    for packet in source.demux(stream):
        if not packet.size:
            continue
        stamp = next(stamps, None)
        if stamp is None:
            raise VideoError(f"more than {count} frames in: {part}")
        packet.stream, packet.time_base = target, VARIABLE_TIME_BASE
        packet.pts = packet.dts = stamp[0]
        packet.duration = stamp[1]
        container.mux(packet)
        count += 1
    if next(stamps, None) is not None:
        raise VideoError(f"only {count} frames in: {part}")
    return count


def _stamps(times_s: Sequence[float], last_ticks: int) -> Iterator[tuple[int, int]]:
    """Stamp and length of each frame, in ticks."""
    ticks = [round(time_s / VARIABLE_TIME_BASE) for time_s in times_s]
    following = [*ticks[1:], ticks[-1] + last_ticks] if ticks else []
    return ((tick, after - tick) for tick, after in zip(ticks, following, strict=True))


def _extradata(stream: Any) -> bytes:
    return bytes(stream.codec_context.extradata or b"")
