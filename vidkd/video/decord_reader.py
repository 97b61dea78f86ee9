"""Reading with decord: fast random access into plain files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidkd.base.errors import VideoError, first_line
from vidkd.video.index import PacketIndex
from vidkd.video.pyav_reader import PyavReader
from vidkd.video.reader import Image

BATCH_FRAMES = 16
"""Frames decoded in one call: more would hold that many full-size pictures before they are resized."""

TIMES_AGREE_S = 2e-3
"""Decord keeps its times in single precision, Matroska in milliseconds."""


class DecordReader(PyavReader):
    """Takes pictures from one decord.VideoReader, and all else from the packets.

    Raises VideoError if decord is not installed, cannot open the file, or its idea of the file's frames differs from what the packets say.
    """

    backend = "decord"

    def __init__(self, path: Path | str, index: PacketIndex, *, short_side: int | None, threads: int = 1) -> None:
        super().__init__(path, index, short_side=short_side, threads=threads)
        self._decord = _open(str(path), threads)
        if problem := self._problem():
            self.close()
            hint = "backend='auto', or vidkd prepare_data check --normalise OUT"
            raise VideoError(f"frame index not reliable: {path}", reason=problem, hint=hint)

    def _problem(self) -> str | None:
        if self._index.problem:
            return self._index.problem
        if len(self._decord) != len(self._index.pts):
            return f"decord counts {len(self._decord)} frames, the packets are {len(self._index.pts)}"
        theirs = self._decord.get_frame_timestamp(np.arange(len(self._decord))).astype(np.float64)[:, 0]
        apart_s = np.abs(theirs - theirs[0] - self.timestamps_s) - 1e-6 * self.timestamps_s
        return "decord's frame times are not those of the packets" if apart_s.max() > TIMES_AGREE_S else None

    def _images(self, indices: Sequence[int]) -> Iterator[Image]:
        for first in range(0, len(indices), BATCH_FRAMES):
            batch = list(indices[first : first + BATCH_FRAMES])
            try:
                images = self._decord.get_batch(batch).asnumpy()
            except Exception as error:  # decord raises classes of its own and plain RuntimeError
                raise _unreadable(self.path, error, frames=f"{batch[0]} to {batch[-1]}") from error
            if images.shape[1:] != (self._index.height, self._index.width, 3):  # seen where lines are padded: widths 16, 24, 48 and 72
                raise VideoError(f"decord cannot read: {self.path}", reason=f"it returns broken pictures of width {self._index.width}")
            yield from images

    def _images_from(self, start_index: int) -> Iterator[Image]:
        return self._images(range(start_index, len(self)))

    def _release(self) -> None:
        del self._decord  # the last reference: decord frees its decoder and queued pictures when the object dies


def _open(path: str, threads: int) -> Any:
    try:
        import decord
    except (ImportError, OSError) as error:
        hint = "pip install decord (other platforms: decord2), or backend='pyav'"
        raise VideoError("decord cannot be loaded", reason=error, hint=hint) from error
    decord.logging.set_level(decord.logging.QUIET)  # what matters is raised; FFmpeg's own lines would flood the terminal
    try:
        return decord.VideoReader(path, ctx=decord.cpu(0), num_threads=threads)
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception, **lines: object) -> VideoError:
    """Decord's message is a C++ trace; its first line names the cause, after the file and line of decord's own source."""
    reason = first_line(error).split("Check failed: ")[-1].split("] ")[-1].strip()
    return VideoError(f"decord cannot read: {path}", **lines, reason="FFmpeg could not decode it" if "avcodec" in reason else reason)
