"""Lists of clips: text files with one clip a line, CSV tables, and labelled intervals of untrimmed videos."""

import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from vidkd.base.errors import DataError, nearest
from vidkd.data.manifest import Clip

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


def read_table(path: Path, required: Sequence[str], *, known: Collection[str] | None = None) -> dict[str, dict[str, str]]:
    """path:line -> the row's values by column, stripped of blanks around them.

    known: the only columns that may be there; None: others are ignored. Raises DataError for a file that is missing or not CSV in UTF-8,
    columns that are missing (each is named) or unknown, and a row of another length.
    """
    rows: dict[str, dict[str, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            _check_columns(f"{path}:1", columns, required, known)
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: not {len(columns)} values", hint="quote values with commas")
                rows[where] = {column: value.strip() for column, value in row.items()}
    except FileNotFoundError:
        raise DataError(f"list not found: {path}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"not a CSV file in UTF-8: {path}", reason=error) from None
    return rows


def _check_columns(where: str, columns: Sequence[str], required: Sequence[str], known: Collection[str] | None) -> None:
    for column in columns if known is not None else ():
        if known and column not in known:
            close = nearest(column, known)
            raise DataError(f"{where}: unknown column '{column}'", **({"did_you_mean": close} if close else {}), known=", ".join(known))
    missing = ", ".join(f"'{column}'" for column in required if column not in columns)
    if missing:
        found = ", ".join(columns) or "an empty file"
        raise DataError(f"{where}: missing columns: {missing}", expected=", ".join(known or required), found=found)


SLACK_S = 0.1
"""How far past the end of its video an interval may be written to end; it then ends with the video. Annotations are rounded."""


def inside(start_s: float, end_s: float | None, duration_s: float, where: str, video: object) -> float | None:
    """The end of an interval in a video of `duration_s`: as given, or the video's own where it is passed by no more than SLACK_S.

    Raises DataError, beginning with `where`, for an interval that begins after the video's end or ends after it by more than that.
    """
    if start_s >= duration_s or (end_s is not None and end_s > duration_s + SLACK_S):
        raise DataError(
            f"{where}: the interval lies outside the video",
            interval=f"{start_s:g} s to {'the end' if end_s is None else f'{end_s:g} s'}",
            video=f"{video}, {duration_s:.2f} s long",
            hint="give seconds from the first frame, inside the video; or is it the list of another cut of it?",
        )
    return None if end_s is None else min(end_s, duration_s)


def overlaps(clips: Sequence[Clip]) -> list[tuple[int, int]]:
    """(earlier, later): for each clip that begins before an earlier one of its file has ended, its number and that of the one."""
    found = []
    longest: dict[str, int] = {}  # of the clips of a file so far, the one that ends last
    for number in sorted(range(len(clips)), key=lambda number: clips[number].start_s):
        earlier = longest.setdefault(clips[number].path, number)
        if earlier != number and clips[number].start_s < _end(clips[earlier]):
            found.append((earlier, number))
        if _end(clips[number]) > _end(clips[earlier]):
            longest[clips[number].path] = number
    return found


def _end(clip: Clip) -> float:
    return float("inf") if clip.end_s is None else clip.end_s


def check_overlaps(clips: Sequence[Clip], where: Callable[[int], str], *, allowed: bool) -> tuple[str, ...]:
    """Raise DataError naming both rows where two intervals of one file overlap; where that is allowed, a remark that counts them."""
    found = overlaps(clips)
    if found and not allowed:
        earlier, later = found[0]
        raise DataError(
            f"{where(later)}: overlaps the interval of {where(earlier)}",
            file=clips[later].path,
            intervals=" and ".join(f"{clips[number].start_s:g} s to {_end(clips[number]):g} s" for number in (earlier, later)),
            found=f"{len(found)} such rows",
            hint="correct the times, or let actions overlap with --allow-overlap",
        )
    return (f"{len(found)} of {len(clips)} intervals begin before an earlier one of their video has ended",) if found else ()
