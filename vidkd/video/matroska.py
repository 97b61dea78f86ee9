"""Matroska files with a hole: FFmpeg skips what it cannot parse to the next cluster, and says nothing."""

from pathlib import Path

from vidkd.video.containers import open_container

MOST_BYTES_BETWEEN = 1024
"""Headers between two packets are some thirty bytes; a lost cluster is thousands."""


def skipped_part(path: Path | str) -> str | None:
    """A sentence if bytes between two packets of a Matroska or WebM file belong to no packet; None for other containers."""
    container = open_container(path)
    try:
        if "matroska" not in container.format.name:
            return None
        end: int | None = None
        for packet in container.demux():
            if not packet.size or packet.pos is None:
                continue
            if end is not None and packet.pos - end > MOST_BYTES_BETWEEN:
                return f"{packet.pos - end} bytes in the middle of the file cannot be parsed, frames are missing"
            end = packet.pos + packet.size
    finally:
        container.close()
    return None
