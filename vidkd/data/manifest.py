"""The manifest: one JSON line a labelled clip, versioned, checked whenever it is written or read."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, get_args

from vidkd.base.errors import DataError, unknown_name
from vidkd.base.files import atomic_write
from vidkd.data.manifest_rows import KeyTypes, check_keys, data_root, header_fields, is_number, manifest_lines, manifest_row, recorded_root

SCHEMA_VERSION = 1
KIND = "vidkd-manifest"
Subset = Literal["train", "test", "val"]
SUBSETS: tuple[str, ...] = get_args(Subset)
_PREPARE_AGAIN = "make the manifest anew: vidkd prepare_data LAYOUT --root DIR [--out FILE]"
_NAME_ROOT = "name the folder that the clips' paths start from (data.root)"
_NO_TARGETS: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A labelled interval of one video; `subsets` says for each split on which side the clip stands (absent: unused there).

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
    index_reliable: bool = True
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

    targets: what else is labelled beside `classes`, each with its class names: {"verb": (...), "noun": (...)}.
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
        _check_names(self, f"manifest '{self.name}'")
        _check_clips(self, lambda number: f"manifest '{self.name}', clip {number + 1}")
        with atomic_write(path) as file:
            for row in (_header(self, path), *map(_row, self.clips)):
                file.write(_dump(row))

    @classmethod
    def read(cls, path: Path | str, root: Path | str | None = None) -> "Manifest":
        """Read and check. `root` overrides the folder of the videos (default: recorded in the header, else the manifest's folder).

        Raises DataError naming file and line for anything that is not as `write` leaves it, and for a root that is not a folder.
        """
        path = Path(path)
        lines = manifest_lines(
            path, hint=_PREPARE_AGAIN, made_by=f"vidkd prepare_data LAYOUT --root DIR --out {path}   (of a data set as it unpacks)"
        )
        where_header = f"{path}:1"
        header = manifest_row(lines[0], where_header, hint=_PREPARE_AGAIN)
        _check_header(header, where_header)
        clips = tuple(_clip(line, f"{path}:{number}") for number, line in enumerate(lines[1:], start=2))
        manifest = cls(
            name=header["name"],
            root=data_root(path, header.get("root"), root, hint=_NAME_ROOT),
            classes=tuple(header["classes"]),
            splits=tuple(header["splits"]),
            clips=clips,
            horizontal_flip=header["horizontal_flip"],
            sources=header["sources"],
            targets={name: tuple(classes) for name, classes in header.get("targets", {}).items()},
        )
        _check_names(manifest, where_header)
        _check_clips(manifest, lambda number: f"{path}:{number + 2}")
        return manifest


def is_manifest(path: Path | str) -> bool:
    """Whether the file begins as a manifest does (of any schema version)."""
    with open(path, "rb") as file:
        return f'"kind": "{KIND}"'.encode() in file.read(256)


def _header(manifest: Manifest, path: Path) -> dict[str, Any]:
    header: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "name": manifest.name,
        "classes": list(manifest.classes),
        "splits": list(manifest.splits),
        "horizontal_flip": manifest.horizontal_flip,
        "sources": dict(manifest.sources),
    }
    if manifest.targets:
        header["targets"] = {name: list(classes) for name, classes in manifest.targets.items()}
    return {**header, **recorded_root(path, manifest.root)}


_OPTIONAL: dict[str, Any] = {
    **{item.name: item.default for item in dataclasses.fields(Clip) if item.default is not dataclasses.MISSING},
    **{item.name: item.default_factory() for item in dataclasses.fields(Clip) if item.default_factory is not dataclasses.MISSING},
}


def _row(clip: Clip) -> dict[str, Any]:
    """Every field that differs from its default: rows stay short and readable."""
    values = {item.name: getattr(clip, item.name) for item in dataclasses.fields(Clip)}
    row = {name: value for name, value in values.items() if name not in _OPTIONAL or value != _OPTIONAL[name]}
    return {**row, "subsets": dict(clip.subsets), **({"targets": dict(clip.targets)} if clip.targets else {})}


def _dump(row: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"a name is not valid UTF-8: {error.object!a}", hint="rename the file") from error
    return text + "\n"


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _is_string_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _is_targets(value: object) -> bool:
    return isinstance(value, dict) and all(name and bool(classes) and _is_strings(classes) for name, classes in value.items())


def _is_label_map(value: object) -> bool:
    return isinstance(value, dict) and all(type(label) is int for label in value.values())


def _is_boxes(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(box, list) and len(box) == 5 and all(map(is_number, box)) for box in value)


_HEADER_TYPES: KeyTypes = {
    "name": ("text", lambda value: isinstance(value, str) and bool(value)),
    "classes": ("a list of names", _is_strings),
    "splits": ("a list of names", _is_strings),
    "horizontal_flip": ("true or false", lambda value: isinstance(value, bool)),
    "sources": ("a map of file to SHA-256", _is_string_map),
}
_HEADER_OPTIONAL: KeyTypes = {
    "root": ("text", lambda value: isinstance(value, str)),
    "targets": ("a map of target to a list of names", _is_targets),
}
_ROW_TYPES: KeyTypes = {
    "path": ("text", lambda value: isinstance(value, str) and bool(value)),
    "label": ("a whole number or null", lambda value: value is None or type(value) is int),
    "group": ("text", lambda value: isinstance(value, str) and bool(value)),
    "subsets": ("a map of split to subset", _is_string_map),
    "start_s": ("a finite number", is_number),
    "end_s": ("a finite number or null", lambda value: value is None or is_number(value)),
    "boxes": ("a list of [time_s, x1, y1, x2, y2]", _is_boxes),
    "index_reliable": ("true or false", lambda value: isinstance(value, bool)),
    "onset_s": ("a finite number or null", lambda value: value is None or is_number(value)),
    "targets": ("a map of target to a whole number", _is_label_map),
    "name": ("text or null", lambda value: value is None or (isinstance(value, str) and bool(value))),
    "tags": ("a list of names", _is_strings),
    "fps": ("a finite number or null", lambda value: value is None or is_number(value)),
}


def _check_header(header: dict[str, Any], where: str) -> None:
    given = header_fields(header, where, kind=KIND, version=SCHEMA_VERSION, what="manifest", hint=_PREPARE_AGAIN)
    check_keys(given, {**_HEADER_TYPES, **_HEADER_OPTIONAL}, set(_HEADER_TYPES), where, hint=_PREPARE_AGAIN)


def _clip(line: str, where: str) -> Clip:
    row = manifest_row(line, where, hint=_PREPARE_AGAIN)
    check_keys(row, _ROW_TYPES, set(_ROW_TYPES) - set(_OPTIONAL), where, hint=_PREPARE_AGAIN)
    if "boxes" in row:
        row = {**row, "boxes": tuple(tuple(box) for box in row["boxes"])}
    if "tags" in row:
        row = {**row, "tags": tuple(row["tags"])}
    return Clip(**row)


def _check_names(manifest: Manifest, where: str) -> None:
    for kind, names in (("class", manifest.classes), ("split", manifest.splits), *manifest.targets.items()):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{where}: {kind} '{twice[0]}' is named twice", hint=f"give each {kind} one name")


def _check_clips(manifest: Manifest, where: Callable[[int], str]) -> None:
    seen: dict[tuple[str, float, float | None, str | None], int] = {}
    names: dict[str, int] = {}
    for number, clip in enumerate(manifest.clips):
        check_clip(clip, manifest.classes, manifest.splits, where(number), manifest.targets)
        first = seen.setdefault((clip.path, clip.start_s, clip.end_s, clip.name), number)
        if first != number:
            raise DataError(
                f"{where(number)}: the same interval of the same file as {where(first)}", clip=clip.path, hint="keep one of the two rows"
            )
        if clip.name is not None and (first := names.setdefault(clip.name, number)) != number:
            raise DataError(f"{where(number)}: the name '{clip.name}' is that of {where(first)}", hint="give each row a name of its own")


def check_clip(
    clip: Clip, classes: Sequence[str], splits: Sequence[str], where: str, targets: Mapping[str, Sequence[str]] = _NO_TARGETS
) -> None:
    """Raise DataError, beginning with `where`, if the clip's values do not fit together or into these classes, splits and targets."""
    for what, hint in (*_problems(clip, classes, splits), *_target_problems(clip, targets)):
        raise DataError(f"{where}: {what}", clip=clip.path, hint=hint)


def _target_problems(clip: Clip, targets: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for target, label in clip.targets.items():
        if target not in targets:
            yield f"unknown target '{target}'", f"use one of {', '.join(targets) or '(none declared)'}, or declare it in the header"
        elif not 0 <= label < len(targets[target]):
            yield f"{target} {label} is out of range", f"use 0 to {len(targets[target]) - 1} ({len(targets[target])} classes)"


def _problems(clip: Clip, classes: Sequence[str], splits: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the values of a clip, each with how to mend it."""
    path = PurePosixPath(clip.path)
    if path.is_absolute() or ".." in path.parts:
        yield "the path leaves the data root", "give paths relative to the root"
    if clip.label is not None and not 0 <= clip.label < len(classes):
        yield f"label {clip.label} is out of range", f"use 0 to {len(classes) - 1} ({len(classes)} classes), or null for an unlabelled clip"
    for split, subset in clip.subsets.items():
        if split not in splits:
            yield f"unknown split '{split}'", f"use one of {', '.join(splits) or '(none declared)'}, or declare it in the header"
        if subset not in SUBSETS:
            yield f"unknown subset '{subset}' of split '{split}'", f"use one of {', '.join(SUBSETS)}"
    if clip.start_s < 0:
        yield f"start_s {clip.start_s:g} is negative", "times count from the first frame, which is 0"
    if clip.end_s is not None and clip.end_s <= clip.start_s:
        yield f"end_s {clip.end_s:g} is not after start_s {clip.start_s:g}", "give the interval in seconds, end after start"
    if clip.onset_s is not None and not clip.start_s <= clip.onset_s <= (math.inf if clip.end_s is None else clip.end_s):
        yield f"onset_s {clip.onset_s:g} lies outside the clip", "give it in seconds of the file, between start_s and end_s"
    if clip.fps is not None and clip.fps <= 0:
        yield f"fps {clip.fps:g} is not positive", "give the frames a second of a folder of images, null for a video file"
    for _time_s, x1, y1, x2, y2 in clip.boxes:
        if x2 <= x1 or y2 <= y1:
            yield f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) is empty", "give boxes as time_s, x1, y1, x2, y2 with x2 > x1 and y2 > y1"
