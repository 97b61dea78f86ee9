"""What a file is that no reader takes, and errors for sources that are not there: told from names and first bytes, nothing is decoded."""

import codecs
import os
import struct
from pathlib import Path
from typing import IO

from vidkd.base.errors import VideoError

BEGINNING_BYTES = 4096
SHOWN_LETTERS = 60


def no_such_video(name: str) -> VideoError:
    """The error for a path at which there is no file."""
    looked_in = {} if Path(name).is_absolute() else {"looked_in": str(Path.cwd())}
    hint = "name a file that is there, a folder of images, or a glob in quotes"
    if name.removeprefix("/dev/video").isdigit():
        hint = f"a camera is named by its number, here {name.removeprefix('/dev/video')}"
    return VideoError(f"no such video: {name}", **looked_in, hint=hint)


def why_no_video(path: Path | str) -> str | None:
    """A sentence if the first bytes of a file, or its outermost boxes, tell why it is no video; None for all else, as for no file."""
    try:
        with Path(path).open("rb") as file:
            beginning = file.read(BEGINNING_BYTES)
            if not beginning:
                return "the file is empty"
            if not beginning.strip(b"\0"):
                return f"its first {len(beginning)} bytes are zero, as of a download that was not finished"
            if (line := _first_line(beginning)) is not None:
                return f"it is text, not a video, and begins: {line}"
            if beginning[4:8] == b"ftyp" and _ends_without_index(file):
                return "the file was cut off: the table of its frames (moov), which MP4 may have at its end, is not whole"
    except OSError:
        return None
    return None


def _first_line(beginning: bytes) -> str | None:
    """The first line with something in it, shortened, if all of this is text in UTF-8."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(beginning)  # a letter may be cut at the end
    except UnicodeDecodeError:
        return None
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= SHOWN_LETTERS else line[: SHOWN_LETTERS - 3] + "..."


def _ends_without_index(file: IO[bytes]) -> bool:
    """Whether the boxes of an MP4 follow each other up to the end of the file, or beyond it, and its table of frames is not whole."""
    size: int
    place, end = 0, file.seek(0, os.SEEK_END)
    while place + 8 <= end:
        file.seek(place)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:  # the size stands behind the kind, in 64 bits
            size = int.from_bytes(file.read(8), "big")
        if kind == b"moov":
            return place + size > end
        if size == 0:  # the last box, as long as the file
            return True
        if size < 8:
            return False
        place += size
    return True
