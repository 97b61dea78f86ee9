"""What every data-set layout shares: its options, what it hands back, the files of its clips, and the errors for what is not there."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeAlias

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import sha256
from vidkd.data.manifest import Clip, Manifest
from vidkd.video.files import video_files


def relative(path: Path, root: Path) -> str:
    """`path` as a manifest writes it: from the root, with forward slashes."""
    return path.relative_to(root).as_posix()


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones and what macOS adds to archives."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


class ClipFiles:
    """The video files of `folder/<class>/` for each class (class "": of the folder itself), found by (class, stem).

    The extension plays no part. Names that differ only in Unicode composition or case are matched where the exact name is missing,
    because file systems change both.
    """

    def __init__(self, root: Path, folder: Path, classes: Iterable[str]) -> None:
        self.folder = folder
        self.paths: list[str] = []
        self._exact: dict[tuple[str, str], list[str]] = {}
        self._loose: dict[tuple[str, str], list[str]] = {}
        for name in classes:
            for file in video_files(folder / name):
                path = relative(file, root)
                self.paths.append(path)
                self._exact.setdefault((name, file.stem), []).append(path)
                self._loose.setdefault((name, _fold(file.stem)), []).append(path)

    def find(self, key: tuple[str, str]) -> str | None:
        """The path, relative to the root, of clip (class, stem); None if absent. Raises DataError if two files answer to it."""
        found = self._exact.get(key) or self._loose.get((key[0], _fold(key[1])), [])
        if len(found) > 1:
            raise DataError(f"two files for one clip: {' and '.join(found)}", looked_in=self.folder, hint="keep one of them")
        return found[0] if found else None


def _fold(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


DIRECTIONS = {"left", "right", "leftward", "leftwards", "rightward", "rightwards", "clockwise", "counterclockwise", "anticlockwise"}
SHOWN = 5  # names listed in a message before "and N more"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to read a layout: `group_pattern` and `seed` serve layouts without splits of their own, `list_file` the layout csv.

    allow_overlap: intervals of one file may overlap (csv, ut_interaction_untrimmed). open_files: see whether every file is a
    video (folder, csv). workers: processes that do so, None: as many as serve.
    """

    allow_missing: bool = False
    seed: int = 0
    test_fraction: float = 0.3
    group_pattern: str | None = None
    list_file: Path | None = None
    boxes: bool = True
    allow_overlap: bool = False
    open_files: bool = False
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A manifest not yet written, the clips that the splits name but that have no file (`--allow-missing`), and remarks for the user."""

    manifest: Manifest
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Layout: TypeAlias = Callable[[Path, Options], Reading]


@dataclass(kw_only=True)
class Listed:
    """A clip as the split lists name it, gathered list by list: `key` is (class, file name without extension)."""

    key: tuple[str, str]
    label: int | None
    group: str
    subsets: dict[str, str] = field(default_factory=dict)

    def place(self, split: str, subset: str, where: str) -> None:
        """Put the clip on one side of a split. Raises DataError if the lists have placed it there already."""
        if split in self.subsets:
            raise DataError(
                f"{where}: '{'/'.join(self.key)}' is listed before, as {self.subsets[split]} of split {split}",
                hint="take one of the two lines out",
            )
        self.subsets[split] = subset


def not_found(name: str, root: Path, expected: str, found: str) -> NoReturn:
    """Raise the error for a data set that is not there, or not as its archive unpacks."""
    raise DataError(
        f"data set '{name}' not found",
        looked_in=root,
        expected=expected,
        found=found,
        hint="unpack the data set there, or name the folder that holds it with --root",
        **{"no_data?": "make demo"},
    )


def first_folder(name: str, root: Path, choices: Sequence[str], expected: str) -> Path:
    """The first of `choices` that is a folder in `root`; raises as `not_found` if there is none."""
    if not root.is_dir():
        not_found(name, root, expected, f"{root} is {'no folder' if root.exists() else 'missing'}")
    for choice in choices:
        if (root / choice).is_dir():
            return root / choice
    missing = " and ".join(f"{choice}/" for choice in choices)
    not_found(name, root, expected, f"{missing} missing; there: {shortened(sorted(path.name for path in root.iterdir())) or 'nothing'}")


def shortened(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def may_flip(root: Path, classes: Sequence[str]) -> bool:
    """Whether clips may be flipped: not where a class names a direction (turn_left, Clockwise), nor in a generated data set of motions."""
    words = {word.lower() for name in classes for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    config = root / "config.json"
    generated = config.is_file() and b'"generator_version"' in config.read_bytes()
    return not generated and not words & DIRECTIONS


def compiled(pattern: str | None) -> re.Pattern[str] | None:
    """The user's regular expression; raises ConfigError if it is none."""
    try:
        return re.compile(pattern) if pattern is not None else None
    except re.error as error:
        raise ConfigError(f"not a regular expression: {pattern}", reason=error, hint="see --help for an example") from None


def hashes(root: Path, files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of each split file, under its path relative to the root (under its name if it lies elsewhere)."""
    return {relative(file, root) if root in file.parents else file.name: sha256(file) for file in files}


def assemble(
    *,
    name: str,
    root: Path,
    classes: Sequence[str],
    splits: Sequence[str],
    listed: Collection[Listed],
    files: ClipFiles,
    lists: Sequence[Path],
    options: Options,
    expected: str,
    horizontal_flip: bool | None = None,
) -> Reading:
    """Find the file of every listed clip. Raises DataError for absent ones unless `allow_missing`, and always if none is there.

    horizontal_flip: by default as `may_flip` says.
    """
    found = {item.key: path for item in listed if (path := files.find(item.key)) is not None}
    absent = tuple("/".join(filter(None, item.key)) for item in listed if item.key not in found)
    if not found:
        not_found(name, root, expected, f"none of the {len(listed)} clips named by the splits ({shortened(absent)})")
    if absent and not options.allow_missing:
        _incomplete(name, files, absent, len(listed), classes, found)
    clips = tuple(
        Clip(path=found[item.key], label=item.label, group=item.group, subsets=item.subsets) for item in listed if item.key in found
    )
    manifest = Manifest(
        name=name,
        root=root,
        classes=tuple(classes),
        splits=tuple(splits),
        clips=clips,
        horizontal_flip=may_flip(root, classes) if horizontal_flip is None else horizontal_flip,
        sources=hashes(root, lists),
    )
    return Reading(manifest=manifest, absent=absent, notes=_unlisted(files, found.values()))


def _incomplete(
    name: str, files: ClipFiles, absent: Sequence[str], total: int, classes: Sequence[str], found: Mapping[tuple[str, str], str]
) -> NoReturn:
    without = sorted(set(classes) - {key[0] for key in found}) if any(key[0] for key in found) else []
    raise DataError(
        f"data set '{name}' is incomplete: {len(absent)} of the {total} clips that its splits name are missing",
        looked_in=files.folder,
        missing=shortened(absent),
        **({"classes_without_a_clip": shortened(without)} if without else {}),
        hint="unpack the archive again, or leave them out with --allow-missing",
    )


def _unlisted(files: ClipFiles, used: Collection[str]) -> tuple[str, ...]:
    unlisted = sorted(set(files.paths) - set(used))
    return (f"{len(unlisted)} video files are in no split list and left out: {shortened(unlisted)}",) if unlisted else ()


def from_folders(
    *,
    name: str,
    root: Path,
    classes: Sequence[str],
    splits: Sequence[str],
    clips: Sequence[Clip],
    options: Options,
    looked_in: Path,
    expected: str,
) -> Reading:
    """A reading of clips found by walking folders; an empty class folder is an error unless `allow_missing`."""
    if not clips:
        not_found(name, root, expected, f"no video file in {looked_in}")
    empty = [classes[label] for label in sorted(set(range(len(classes))) - {clip.label for clip in clips if clip.label is not None})]
    if empty and not options.allow_missing:
        raise DataError(
            f"data set '{name}': {len(empty)} of its {len(classes)} classes have no video",
            looked_in=looked_in,
            empty=shortened(empty),
            hint="fill or remove the folders, or go on without them with --allow-missing",
        )
    flips = may_flip(root, classes)
    manifest = Manifest(name=name, root=root, classes=tuple(classes), splits=tuple(splits), clips=tuple(clips), horizontal_flip=flips)
    return Reading(manifest=manifest, notes=(f"{len(empty)} classes have no video: {shortened(empty)}",) if empty else ())
