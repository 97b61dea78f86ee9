"""The manifest: one JSON line a labelled clip, versioned, checked whenever it is written or read; and what every manifest is as a file."""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, get_args

from vidkd.base.errors import DataError, unknown_name
from vidkd.base.files import atomic_write, parse_json
from vidkd.base.records import read_record


def manifest_rows(path: Path, *, kind: str, version: int, counted: str, fix: str, made_by: str | None = None) -> list[dict[str, Any]]:
    """The header, without kind, version and count, and the rows of a manifest, each an object.

    kind, version: what the header must say. counted: the key of the header that holds the number of rows. fix: for one that is not whole.
    made_by: what makes one where there is none. Raises DataError with path and line for a file that is missing, a folder, no text, of
    another kind or version, or cut off: within a row or between two.
    """
    lines = _lines(path, fix, made_by)
    rows = [_row(line, f"{path}:{number}", fix) for number, line in enumerate(lines, start=1)]
    header = rows[0]
    if header.pop("kind", None) != kind:
        raise DataError(f"{path}:1: not a manifest", expected=f'a first line with "kind": "{kind}"', hint=fix)
    if (found := header.pop("schema_version", None)) != version:
        raise DataError(f"{path}:1: schema_version {found} is not {version}, the one known here", hint=fix)
    if (announced := header.pop(counted, None)) != len(rows) - 1:
        raise DataError(f"not a whole manifest: {path}", **{counted: f"{announced} announced, {len(rows) - 1} found"}, hint=fix)
    return rows


def _lines(path: Path, fix: str, made_by: str | None) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"manifest not found: {path}", **({"hint": made_by} if made_by else {})) from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise DataError(f"not a manifest: {path}", reason=error, hint="name the .jsonl file that prepare_data wrote") from None
    if not text.endswith("\n"):
        raise DataError(f"not a whole manifest: {path}", reason="its last line does not end" if text else "empty file", hint=fix)
    return text[:-1].split("\n")


def _row(line: str, where: str, fix: str) -> dict[str, Any]:
    row = parse_json(line, where, hint=fix)
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object", hint=fix)
    return row


def manifest_line(row: dict[str, Any]) -> str:
    """A row as a line. Raises DataError for a name that is no UTF-8."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"a name is not valid UTF-8: {error.object!a}", hint="rename the file") from error
    return text + "\n"


def recorded_root(path: Path, root: Path) -> dict[str, str]:
    """What a manifest at `path` records of its data root: nothing for its own folder, a relative path for one above it, else the whole."""
    folder, root = path.resolve().parent, root.resolve()
    if folder == root:
        return {}
    return {"root": Path(os.path.relpath(root, folder)).as_posix() if root in folder.parents else str(root)}


def data_root(path: Path, recorded: str | None, given: Path | str | None, *, fix: str) -> Path:
    """The folder that paths start from: as given, else as recorded, else the manifest's own. Raises DataError if it is no folder."""
    root = Path(given) if given is not None else (path.parent / recorded).resolve() if recorded else path.parent
    if not root.is_dir():
        origin = "given" if given is not None else f"recorded in {path}:1"
        raise DataError(f"data root not found: {root}", origin=origin, hint=fix)
    return root


SCHEMA_VERSION = 1
KIND = "vidkd-manifest"
Subset = Literal["train", "test", "val"]
SUBSETS: tuple[str, ...] = get_args(Subset)
_PREPARE_AGAIN = "make the manifest again: vidkd prepare_data LAYOUT --data.root DIR [--out FILE]"
_NAME_ROOT = "name the folder that the clips' paths start from (data.root)"
_NO_TARGETS: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A labelled interval of one video; `subsets` says for each split on which side the clip is (absent: unused there).

    path: relative to the data root, with forward slashes. label: index into the manifest's classes, None if unlabelled.
    group: what must not stand on both sides of a split (an actor, a source video). start_s, end_s: seconds on the decoded
    timestamps, from 0; end_s None is the end of the file. boxes: (time_s, x1, y1, x2, y2) in pixels of the source, of the actor.
    onset_s: when the labelled action begins, if known. targets: further labels by name, each an index into the manifest's `targets`.
    name: the data set's own identifier of the row. tags: what reports may group by ("unseen", "tail").
    fps: frames a second of a folder of images, which does not know it itself.
    """

    path: str
    label: int | None
    group: str
    subsets: Mapping[str, str]
    start_s: float = 0.0
    end_s: float | None = None
    boxes: tuple[tuple[float, float, float, float, float], ...] = ()
    onset_s: float | None = None
    targets: Mapping[str, int] = field(default_factory=dict)
    name: str | None = None
    tags: tuple[str, ...] = ()
    fps: float | None = None

    @property
    def is_labelled(self) -> bool:
        """Whether it has a label of any kind."""
        return self.label is not None or bool(self.targets)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All clips of a data set. `sources` maps each split file (relative to the root) to its SHA-256.

    targets: what else is labelled in addition to `classes`, each with its class names: {"verb": (...), "noun": (...)}.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    clips: tuple[Clip, ...]
    horizontal_flip: bool = True
    sources: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def select(self, split: str, subset: str) -> list[Clip]:
        """The clips of one side of a split, in the manifest's order. Raises ConfigError for a name that is not there."""
        if split not in self.splits:
            raise unknown_name("split", split, self.splits, data_set=self.name)
        if subset not in SUBSETS:
            raise unknown_name("subset", subset, SUBSETS)
        return [clip for clip in self.clips if clip.subsets.get(split) == subset]

    def write(self, path: Path | str) -> None:
        """Write atomically. A manifest inside its root can move with it; one written elsewhere keeps the absolute root.

        Raises DataError for clips that `read` would refuse.
        """
        path = Path(path)
        _check(self, f"manifest '{self.name}'", lambda number: f"manifest '{self.name}', clip {number + 1}")
        header = {"schema_version": SCHEMA_VERSION, "kind": KIND, "clips": len(self.clips), "name": self.name, "classes": self.classes}
        header |= {"splits": self.splits, "horizontal_flip": self.horizontal_flip, "sources": self.sources}
        header |= {"targets": self.targets} if self.targets else {}
        with atomic_write(path) as file:
            file.write(manifest_line({**header, **recorded_root(path, self.root)}))
            for clip in self.clips:
                row = {**_said(clip), "subsets": clip.subsets}
                file.write(manifest_line(row if clip.targets else {name: value for name, value in row.items() if name != "targets"}))

    @classmethod
    def read(cls, path: Path | str, root: Path | str | None = None) -> "Manifest":
        """Read and check. `root` overrides the folder of the videos (default: recorded in the header, else the manifest's folder).

        Raises DataError naming file and line for anything that is not as `write` leaves it, and for a root that is not a folder.
        """
        path = Path(path)
        made_by = f"vidkd prepare_data LAYOUT --data.root DIR --out {path}   (of a data set as it unpacks)"
        row, *rows = manifest_rows(path, kind=KIND, version=SCHEMA_VERSION, counted="clips", fix=_PREPARE_AGAIN, made_by=made_by)
        header = read_record(_Header, row, f"{path}:1", error=DataError, hint=_PREPARE_AGAIN)
        manifest = cls(
            name=header.name,
            root=data_root(path, header.root, root, fix=_NAME_ROOT),
            classes=header.classes,
            splits=header.splits,
            clips=tuple(
                read_record(Clip, row, f"{path}:{number}", error=DataError, hint=_PREPARE_AGAIN) for number, row in enumerate(rows, start=2)
            ),
            horizontal_flip=header.horizontal_flip,
            sources=header.sources,
            targets=header.targets,
        )
        _check(manifest, f"{path}:1", lambda number: f"{path}:{number + 2}")
        return manifest


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The first line without its kind, version and number of clips."""

    name: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    horizontal_flip: bool
    sources: Mapping[str, str]
    root: str | None = None
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_PLAIN = {item.name: item.default for item in dataclasses.fields(Clip) if item.default is not dataclasses.MISSING}


def _said(clip: Clip) -> dict[str, Any]:
    """Every field that differs from its default: rows stay short and readable."""
    return {name: value for name, value in vars(clip).items() if name not in _PLAIN or value != _PLAIN[name]}


def manifest_identity(manifest: Manifest) -> dict[str, str]:
    """Name and SHA-256 of what a manifest says (classes, splits, rows, whether clips may be flipped), independent of its path."""
    content = [list(manifest.classes), list(manifest.splits), manifest.horizontal_flip, [_said(clip) for clip in manifest.clips]]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=dict)
    return {"name": manifest.name, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def is_manifest(path: Path | str) -> bool:
    """Whether the file begins as a manifest does (of any schema version)."""
    with open(path, "rb") as file:
        return f'"kind": "{KIND}"'.encode() in file.read(256)


def _check(manifest: Manifest, header: str, where: Callable[[int], str]) -> None:
    """Raise DataError, beginning with the place, for names that are given twice and clips that do not fit."""
    for kind, names in (("class", manifest.classes), ("split", manifest.splits), *manifest.targets.items()):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or "" in names or (kind in manifest.targets and not names):
            fault = f"'{twice[0]}' is named twice" if twice else "has an empty name" if names else "has no classes"
            raise DataError(f"{header}: {kind} {fault}", hint=f"give each {kind} a name of its own")
    seen: dict[Any, int] = {}
    for number, clip in enumerate(manifest.clips):
        check_clip(clip, manifest.classes, manifest.splits, where(number), manifest.targets)
        first = seen.setdefault((clip.path, clip.start_s, clip.end_s, clip.name), number)
        if first != number:
            what = f"{where(number)}: the same interval of the same file as {where(first)}"
            raise DataError(what, clip=clip.path, hint="keep one of the two rows")
        if clip.name is not None and (first := seen.setdefault(clip.name, number)) != number:
            raise DataError(f"{where(number)}: the name '{clip.name}' is that of {where(first)}", hint="give each row a name of its own")


def check_clip(
    clip: Clip, classes: Sequence[str], splits: Sequence[str], where: str, targets: Mapping[str, Sequence[str]] = _NO_TARGETS
) -> None:
    """Raise DataError, beginning with `where`, if the clip's values do not fit together or into these classes, splits and targets."""
    for what, hint in _problems(clip, classes, splits, targets):
        raise DataError(f"{where}: {what}", clip=clip.path, hint=hint)


def _problems(clip: Clip, classes: Sequence[str], splits: Sequence[str], targets: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """What is wrong with the values of a clip, each with how to fix it."""
    for key in ("path", "group", "name"):
        if getattr(clip, key) == "":
            yield f"'{key}' is empty", f"give each clip a {key}"
    path = PurePosixPath(clip.path)
    if path.is_absolute() or ".." in path.parts:
        yield "the path leaves the data root", "give paths relative to the root"
    labels = {"label": (clip.label, classes), **{target: (label, targets.get(target)) for target, label in clip.targets.items()}}
    for target, (label, names) in labels.items():
        if names is None:
            yield f"unknown target '{target}'", f"use one of {', '.join(targets) or '(none declared)'}, or declare it in the header"
        elif label is not None and not 0 <= label < len(names):
            yield f"{target} {label} is out of range", f"use 0 to {len(names) - 1} ({len(names)} classes), or null for an unlabelled clip"
    for split, subset in clip.subsets.items():
        if split not in splits:
            yield f"unknown split '{split}'", f"use one of {', '.join(splits) or '(none declared)'}, or declare it in the header"
        if subset not in SUBSETS:
            yield f"unknown subset '{subset}' of split '{split}'", f"use one of {', '.join(SUBSETS)}"
    end_s = math.inf if clip.end_s is None else clip.end_s
    if clip.start_s < 0:
        yield f"start_s {clip.start_s:g} is negative", "times count from the first frame, which is 0"
    if end_s <= clip.start_s:
        yield f"end_s {end_s:g} is not after start_s {clip.start_s:g}", "give the interval in seconds, end after start"
    if clip.onset_s is not None and not clip.start_s <= clip.onset_s <= end_s:
        yield f"onset_s {clip.onset_s:g} lies outside the clip", "give it in seconds of the file, between start_s and end_s"
    if clip.fps is not None and clip.fps <= 0:
        yield f"fps {clip.fps:g} is not positive", "give the frames a second of a folder of images, null for a video file"
    for _time_s, x1, y1, x2, y2 in clip.boxes:
        if x2 <= x1 or y2 <= y1:
            yield f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) is empty", "give boxes as time_s, x1, y1, x2, y2 with x2 > x1 and y2 > y1"
