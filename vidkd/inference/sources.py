"""Where frames come from that are watched in order: a file, an image sequence, a camera or a network stream."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidkd.base.errors import VideoError
from vidkd.video import Frame, VideoReader, open_stream, open_video
from vidkd.video.check import incomplete
from vidkd.video.opening import Backend

LIVE_FPS = 25.0


@dataclass(frozen=True, kw_only=True)
class Source:
    """Frames in order.

    live: frames arrive in real time. fps: average rate, for a live source an assumption; frames carry times. count: frames of the whole
    input, None if unknown.
    frames: raises VideoError where the source cannot be read on, and at its end if the file promised more.
    """

    name: str
    live: bool
    fps: float
    count: int | None = None
    frames: Iterator[Frame]


def is_live(name: str) -> bool:
    """Whether a name is a camera's number or the address of a stream, not a file."""
    return "://" in name or (name.isdigit() and not Path(name).exists())


@contextlib.contextmanager
def open_source(
    name: str, *, start: int = 0, decoder: Backend = "auto", sequence_fps: float | None = None, stop_s: float | None = None
) -> Iterator[Source]:
    """A source open for one pass; closed on leaving, which must be in the thread that opened it and after the frames were let go.

    start: index of the first frame; a live source begins where it is.
    decoder: `decord` where decord must read; else it is PyAV, which is exact, quicker in order, and never repairs a picture in silence.
    sequence_fps: frames a second of an image sequence. stop_s: frames from this time on are left out.
    Raises VideoError if it is missing, or no video.
    """
    if is_live(name):
        with open_stream(int(name) if name.isdigit() else name) as stream:
            yield Source(name=name, live=True, fps=LIVE_FPS, frames=_until(iter(stream), stop_s))
    else:
        with open_video(name, backend="decord" if decoder == "decord" else "pyav", sequence_fps=sequence_fps) as video:
            frames = _until(whole_from(video, start), stop_s)
            yield Source(name=name, live=False, fps=video.info.average_fps, count=len(video), frames=frames)


def _until(frames: Iterator[Frame], stop_s: float | None) -> Iterator[Frame]:
    for frame in frames:
        if stop_s is not None and frame.time_s >= stop_s:
            return
        yield frame


def whole_from(video: VideoReader, start: int = 0) -> Iterator[Frame]:
    """The frames from `start` on. Raises VideoError where the video cannot be read on, or at its end if the file promised more."""
    count = start
    try:
        for frame in video.stream(start) if start < len(video) else ():
            yield frame
            count += 1
    except VideoError as error:  # which counts from where decoding began
        raise VideoError(error.what, **{**error.lines, "after frames": count}) from error
    if missing := incomplete(video):
        raise VideoError(f"the video is not whole: {video.path}", after_frames=count, reason=missing)
