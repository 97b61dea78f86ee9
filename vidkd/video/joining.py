"""Parts of a video put together without encoding again."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import av

from vidkd.base.errors import WRITE_FIX, VideoError
from vidkd.video.containers import opened, reason_of
from vidkd.video.writer import VARIABLE_TIME_BASE, to_disk

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
