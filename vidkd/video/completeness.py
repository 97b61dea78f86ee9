"""Is all of a file there? Broken downloads and holes that decoding alone does not show, since it ends or goes on without an error."""

from pathlib import Path
from typing import Any

import av

from vidkd.video.containers import open_container, video_stream

MOST_BYTES_BETWEEN = 1024
"""In Matroska the headers between two packets are some thirty bytes; a lost cluster is thousands."""


def missing_part(path: Path | str, found_s: float) -> str | None:
    """A sentence if a file whose pictures last `found_s` seconds ends before its header says, or has a hole; else None.

    MP4 lists all its packets, so `read_packets` has counted them; here it is about the other containers.
    """
    container = open_container(path)
    try:
        declared_s = declared_duration_s(container, video_stream(container, path, threads=1))
        return ends_early(declared_s, found_s) or _skipped_part(container)
    finally:
        container.close()


def declared_duration_s(container: Any, stream: Any) -> float | None:
    """The length of the pictures that the header promises; None where it speaks of something else: other streams too, or hidden frames."""
    if "mp4" in container.format.name.split(","):
        return None
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if len(container.streams) == 1 and container.duration is not None:
        return float(container.duration / av.time_base)
    return None


def ends_early(declared_s: float | None, found_s: float) -> str | None:
    """A sentence if much of what the header promises is not there. Sound headers are off by a few frames."""
    if declared_s is None or declared_s - found_s <= max(0.2, 0.02 * declared_s):
        return None
    return f"the file ends early: its header promises {declared_s:.2f} s, {found_s:.2f} s are there"


def _skipped_part(container: Any) -> str | None:
    """FFmpeg skips what it cannot parse of a Matroska file, to the next cluster, and says nothing: look for bytes that no packet has."""
    if "matroska" not in container.format.name:
        return None
    end: int | None = None
    for packet in container.demux():
        if not packet.size or packet.pos is None:
            continue
        if end is not None and packet.pos - end > MOST_BYTES_BETWEEN:
            return f"{packet.pos - end} bytes in the middle of the file cannot be parsed, frames are missing"
        end = packet.pos + packet.size
    return None
