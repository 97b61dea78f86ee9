"""The frames of an input from any frame on, and how many there will be."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from vidkd.base.errors import VideoError
from vidkd.engine.sources import is_live, open_source, whole_from
from vidkd.video import Frame, open_video


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
            yield StreamSource(name=name, live=False, fps=video.info.average_fps, count=len(video), frames=whole_from(video, start))


def constant_size(frames: Iterator[Frame], before: tuple[int, int] | None = None) -> Iterator[Frame]:
    """The frames, as long as they have one size. Raises VideoError at the first that has another.

    before: (width, height) of those that came before these, None for the first frames of all.
    """
    for frame in frames:
        height, width = frame.image.shape[:2]
        before = before or (width, height)
        if (width, height) != before:
            reason = f"{width} x {height}, {before[0]} x {before[1]} before"
            raise VideoError("the size of the frames changes", after_frames=frame.index, reason=reason)
        yield frame
