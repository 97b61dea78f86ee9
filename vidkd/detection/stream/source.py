"""The frames of an input from any frame on, and how many there will be."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from vidkd.base.errors import VideoError
from vidkd.engine.sources import is_live, open_source
from vidkd.video import Frame, VideoReader, open_video
from vidkd.video.completeness import missing_part


@dataclass(frozen=True, kw_only=True)
class StreamSource:
    """fps: average rate, of a live source a guess. count: frames of the whole input, None if nobody knows. frames: from `start` on.

    frames raises VideoError where the input cannot be read on, and at its end if the file promised more.
    """

    name: str
    live: bool
    fps: float
    count: int | None
    frames: Iterator[Frame]


@contextlib.contextmanager
def open_from(name: str, *, start: int = 0, sequence_fps: float | None = None) -> Iterator[StreamSource]:
    """An input open for one pass that begins at the frame `start`; a live source begins where it is.

    As `open_source`, which knows no start and no count. Raises VideoError if it is missing, or no video.
    """
    if is_live(name):
        with open_source(name) as live:
            yield StreamSource(name=name, live=True, fps=live.fps, count=None, frames=live.frames)
    else:
        with open_video(name, backend="pyav", sequence_fps=sequence_fps) as video:
            yield StreamSource(name=name, live=False, fps=video.info.average_fps, count=len(video), frames=_whole_from(video, start))


def _whole_from(video: VideoReader, start: int) -> Iterator[Frame]:
    count = start
    try:
        for frame in video.stream(min(start, len(video))):
            yield frame
            count += 1
    except VideoError as error:  # which counts from where decoding began
        raise VideoError(error.what, **{**error.lines, "after frames": count}) from error
    if video.info.backend != "images" and (missing := video.info.damage or missing_part(video.path, video.info.duration_s)):
        raise VideoError(f"the video is not whole: {video.path}", after_frames=count, reason=missing)


def constant_size(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames, as long as they have one size. Raises VideoError at the first that has another."""
    shape: tuple[int, ...] | None = None
    for frame in frames:
        shape = shape or frame.image.shape
        if frame.image.shape != shape:
            size, first = (f"{form[1]} x {form[0]}" for form in (frame.image.shape, shape))
            raise VideoError("the size of the frames changes", after_frames=frame.index, reason=f"{size}, {first} before")
        yield frame
