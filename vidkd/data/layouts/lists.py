"""Split lists: text files that name one clip a line."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vidkd.base.errors import DataError

# the name may hold spaces; a number may follow it
_LINE = re.compile(r"(?P<name>.+?\.\w+)(?:\s+(?P<number>\d+))?")


def read_lines(path: Path) -> list[tuple[str, str]]:
    """(where, text) of every line that is not blank, stripped; `where` is path:line. Raises DataError if it is not UTF-8 text."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {path}", reason=error.reason, hint="take the file from the archive again") from None
    return [(f"{path}:{number}", line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_list(path: Path) -> Iterator[tuple[str, str, int | None]]:
    """Yields (where, name of the file, number after it or None) for every line that is not blank; `where` is path:line.

    Raises DataError for a line that names no file.
    """
    for where, line in read_lines(path):
        match = _LINE.fullmatch(line)
        if match is None:
            raise DataError(f"{where}: names no file: {line!r}", expected="<name>.avi, or <name>.avi <number>")
        yield where, match["name"], int(match["number"]) if match["number"] else None


def stem(name: str) -> str:
    """Name of a listed file without folders and extension; lists use forward slashes on every platform."""
    return PurePosixPath(name).stem
