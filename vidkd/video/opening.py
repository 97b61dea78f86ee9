"""One call that opens any video and picks who decodes it."""

from pathlib import Path
from typing import Literal, TypeAlias

from vidkd.base.errors import VideoError, unknown_name
from vidkd.base.lru import LRUCache
from vidkd.video.containers import check_frame_size, no_such_video
from vidkd.video.decord_reader import DecordReader
from vidkd.video.image_sequence import ImageSequenceReader, is_image_sequence
from vidkd.video.index import PacketIndex, read_packets, stored_index
from vidkd.video.pyav_reader import PyavReader
from vidkd.video.reader import VideoReader

Backend: TypeAlias = Literal["auto", "decord", "pyav"]

_looked_over: LRUCache[tuple[str | int, ...], PacketIndex] = LRUCache(most_entries=65_536, most_bytes=64 * 2**20)


def open_video(
    path: Path | str,
    *,
    backend: Backend = "auto",
    short_side: int | None = None,
    threads: int = 1,
    sequence_fps: float | None = None,
) -> VideoReader:
    """Open a video file or an image sequence for reading frames by index, by time, or as a stream.

    path: a file; or a folder of images, a glob (`frames/*.jpg`) or a pattern (`frames/%05d.png`).
    sequence_fps: frames a second of such images, by default 25; a file knows its own times.
    backend: "auto" is PyAV, which finds frames by their presentation times in the index of the file's packets and raises at damage.
        "decord" was slower wherever it was measured, reports no damage, and refuses what it cannot open (AV1, truncated files) or is known
        to misread (edit lists, transport streams, open GOPs, AVI with B-frames).
    short_side: scale frames so that the shorter side has this many pixels (area averaging when shrinking).
    threads: decoding threads; 1 suits many worker processes, 0 takes what the machine has.

    Raises VideoError if the file is missing, empty, no video, or too large. The reader must be used in this process.
    """
    if backend not in ("auto", "decord", "pyav"):
        raise unknown_name("video backend", backend, ("auto", "decord", "pyav"))
    name = str(path)
    if is_image_sequence(name):
        return ImageSequenceReader(name, fps=sequence_fps, short_side=short_side)
    reader = DecordReader if backend == "decord" else PyavReader
    return reader(name, read_file(name), short_side=short_side, threads=threads)


def read_file(name: str) -> PacketIndex:
    """The packets of a file that exists, is not empty and whose frames are not too large; VideoError otherwise.

    A file is looked over once a process, as long as its size, its time of modification and its place on the disk stay what they are; not at
    all where an index file that was made known by `use_index_file` has it.
    """
    if "://" in name:
        raise VideoError(f"not a file: {name}", hint="open_stream reads cameras and network streams")
    if not Path(name).is_file():
        raise no_such_video(name)
    status = Path(name).stat()
    if not status.st_size:
        raise VideoError(f"empty file: {name}", hint="fetch it again; `vidkd prepare_data check FOLDER` finds all that cannot be read")
    file = (name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    index = _looked_over.get(file)
    if index is None:
        index = stored_index(name, status) or read_packets(name)
        _looked_over.put(file, index, index.size_bytes)
    check_frame_size(name, index.width, index.height)
    return index
