"""What every data-set layout shares: its options, what it hands back, lists of clips, their files, and errors for what is missing."""

import csv
import dataclasses
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeAlias

from vidkd.base.errors import DataError, nearest
from vidkd.base.files import sha256
from vidkd.data.manifest import Clip, Manifest
from vidkd.video.files import video_files

DIRECTIONS = {"left", "right", "leftward", "leftwards", "rightward", "rightwards", "clockwise", "counterclockwise", "anticlockwise"}
SHOWN = 5  # names listed in a message before "and N more"
NO_DATA = {"no_data?": "vidkd make_data --out DIR writes synthetic videos"}
Key: TypeAlias = tuple[str, str]
"""How a split list names a clip: class, and file name without its extension."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to read a layout: `group_pattern` and `seed` serve layouts without splits of their own, `list_file` the layout csv.

    allow_missing: leave out clips without a file. boxes: read those of jhmdb. allow_overlap: intervals of one file may overlap (csv,
    ut_interaction_untrimmed). broken: paths of files that are no videos; folder and csv draw their split without them.
    """

    allow_missing: bool = False
    seed: int = 0
    group_pattern: str | None = None
    list_file: Path | None = None
    boxes: bool = True
    allow_overlap: bool = False
    broken: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A manifest not yet written, the clips that the splits name but that have no file (`--allow-missing`), and remarks for the user."""

    manifest: Manifest
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Layout: TypeAlias = Callable[[Path, Options], Reading]


def relative(path: Path, root: Path) -> str:
    """`path` as a manifest writes it: from the root, with forward slashes."""
    return path.relative_to(root).as_posix()


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones and what macOS adds to archives."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def shortened(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def not_found(name: str, root: Path, expected: str, found: str) -> NoReturn:
    """Raise the error for a data set that is not there, or not as its archive unpacks."""
    hint = "unpack the data set there, or name the folder that holds it with --data.root"
    raise DataError(f"data set '{name}' not found", looked_in=root.resolve(), expected=expected, found=found, hint=hint, **NO_DATA)


def first_folder(name: str, root: Path, choices: Sequence[str], expected: str) -> Path:
    """The first of `choices` that is a folder in `root`; raises as `not_found` if there is none."""
    if not root.is_dir():
        not_found(name, root, expected, f"{root} is {'no folder' if root.exists() else 'missing'}")
    for choice in choices:
        if (root / choice).is_dir():
            return root / choice
    missing = " and ".join(f"{choice}/" for choice in choices)
    not_found(name, root, expected, f"{missing} missing; there: {shortened(sorted(path.name for path in root.iterdir())) or 'nothing'}")


def may_flip(root: Path, classes: Sequence[str]) -> bool:
    """Whether clips may be flipped: not where a class names a direction (turn_left, Clockwise), nor in a generated data set of motions."""
    words = {word.lower() for name in classes for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    config = root / "config.json"
    generated = config.is_file() and b'"generator_version"' in config.read_bytes()
    return not generated and not words & DIRECTIONS


def manifest_of(
    name: str, root: Path, classes: Sequence[str], splits: Iterable[str], clips: Iterable[Clip], lists: Iterable[Path] = (), **more: Any
) -> Manifest:
    """A manifest; lists: the split files, of which it keeps SHA-256 under their path from the root (their name if they lie elsewhere).

    more: further fields; clips may be flipped as `may_flip` says.
    """
    sources = {relative(file, root) if root in file.parents else file.name: sha256(file) for file in lists}
    fields = {"horizontal_flip": may_flip(root, classes), "sources": sources, **more}
    return Manifest(name=name, root=root, classes=tuple(classes), splits=tuple(splits), clips=tuple(clips), **fields)


class ClipFiles:
    """The video files of `folder/<class>/` for each class (class "": of the folder itself), found by (class, stem).

    The extension plays no part. Names that differ only in Unicode composition or case are matched where the exact name is missing,
    because file systems change both.
    """

    def __init__(self, root: Path, folder: Path, classes: Iterable[str]) -> None:
        self.folder = folder
        self.paths: list[str] = []
        self._found: dict[Key, list[str]] = {}
        for name in classes:
            for file in video_files(folder / name):
                path = relative(file, root)
                self.paths.append(path)
                for stem in {file.stem, _fold(file.stem)}:
                    self._found.setdefault((name, stem), []).append(path)

    def find(self, key: Key) -> str | None:
        """The path, relative to the root, of clip (class, stem); None if absent. Raises DataError if two files answer to it."""
        found = self._found.get(key) or self._found.get((key[0], _fold(key[1])), [])
        if len(found) > 1:
            raise DataError(f"two files for one clip: {' and '.join(found)}", looked_in=self.folder, hint="keep one of them")
        return found[0] if found else None


def _fold(stem: str) -> str:
    return " " + unicodedata.normalize("NFC", stem).casefold()  # no file name as it is listed begins with a blank


def place(listed: dict[Key, Clip], key: Key, *, label: int | None, group: str, subsets: Mapping[str, str], where: str) -> None:
    """Put a clip that a split list names, whose path is not yet known, on sides of splits. Raises DataError if it is listed twice."""
    clip = listed.get(key) or Clip(path="/".join(filter(None, key)), label=label, group=group, subsets={})
    for split in set(subsets) & set(clip.subsets):
        raise DataError(
            f"{where}: '{clip.path}' is listed before, as {clip.subsets[split]} of split {split}", hint="take one of the two lines out"
        )
    listed[key] = dataclasses.replace(clip, subsets={**clip.subsets, **subsets})


def assemble(
    name: str,
    root: Path,
    classes: Sequence[str],
    splits: Iterable[str],
    listed: Mapping[Key, Clip],
    files: ClipFiles,
    lists: Iterable[Path],
    options: Options,
    expected: str,
    **more: Any,
) -> Reading:
    """Find the file of every listed clip. Raises DataError for absent ones unless `allow_missing`, and always if none is there."""
    found = {key: path for key in listed if (path := files.find(key)) is not None}
    absent = tuple(clip.path for key, clip in listed.items() if key not in found)
    if not found:
        not_found(name, root, expected, f"none of the {len(listed)} clips named by the splits ({shortened(absent)})")
    if absent and not options.allow_missing:
        without = sorted(set(classes) - {key[0] for key in found}) if any(key[0] for key in found) else []
        raise DataError(
            f"data set '{name}' is incomplete: {len(absent)} of the {len(listed)} clips that its splits name are missing",
            looked_in=files.folder,
            missing=shortened(absent),
            **({"classes_without_a_clip": shortened(without)} if without else {}),
            hint="unpack the archive again, or leave them out with --allow-missing",
        )
    unlisted = sorted(set(files.paths) - set(found.values()))
    notes = (f"{len(unlisted)} video files are in no split list and left out: {shortened(unlisted)}",) if unlisted else ()
    clips = (dataclasses.replace(clip, path=found[key]) for key, clip in listed.items() if key in found)
    return Reading(manifest=manifest_of(name, root, classes, splits, clips, lists, **more), absent=absent, notes=notes)


def from_folders(
    name: str,
    root: Path,
    classes: Sequence[str],
    splits: Iterable[str],
    clips: Sequence[Clip],
    options: Options,
    folder: Path,
    expected: str,
) -> Reading:
    """A reading of clips found by walking `folder`; a class without any is an error unless `allow_missing`."""
    if not clips:
        not_found(name, root, expected, f"no video file in {folder}")
    empty = [classes[label] for label in range(len(classes)) if label not in {clip.label for clip in clips}]
    if empty and not options.allow_missing:
        raise DataError(
            f"data set '{name}': {len(empty)} of its {len(classes)} classes have no video",
            looked_in=folder,
            empty=shortened(empty),
            hint="fill or remove the folders, or continue without them: --allow-missing",
        )
    notes = (f"{len(empty)} classes have no video: {shortened(empty)}",) if empty else ()
    return Reading(manifest=manifest_of(name, root, classes, splits, clips), notes=notes)


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
