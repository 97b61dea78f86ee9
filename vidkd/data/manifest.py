"""The manifest: one JSON line a labelled clip, versioned, checked whenever it is written or read."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, get_args

from vidkd.base.errors import DataError, unknown_name
from vidkd.base.files import atomic_write
from vidkd.base.records import read_record
from vidkd.data.manifest_rows import data_root, manifest_line, manifest_rows, recorded_root

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
