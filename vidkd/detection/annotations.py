"""Frames with the boxes of what is in them, and the manifest of a data set of such frames: JSON lines, versioned, checked."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError, unknown_name
from vidkd.base.files import atomic_write
from vidkd.base.records import read_record
from vidkd.data.manifest import SUBSETS
from vidkd.data.manifest_rows import data_root, manifest_rows, recorded_root

SCHEMA_VERSION = 1
KIND = "vidkd-boxes"
ANY_CLASS = -1
"""Label of an ignored region that hides objects of every class."""
FrameKey: TypeAlias = tuple[str, int | None]
"""Path from the data root, and the index of the frame in it; None for a single image."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledFrame:
    """One annotated frame. No box at all says that nothing is there; a frame of which nothing is known is in no manifest.

    path: from the data root, with forward slashes: an image (frame_index None), or a video or folder of images, in which frame_index counts
    decoded frames from 0. time_s: seconds from the first frame, None where unknown. width, height: pixels of the frame as decoded.
    boxes: (N, 4) float32, x1 y1 x2 y2 in pixels, edges of the whole frame 0, 0, width, height; parts outside the frame are kept.
    labels: (N,) int64 indices of the manifest's classes, or ANY_CLASS where `ignore`. ignore: (N,) bool, regions where a detection is
    neither right nor wrong (crowds, "difficult", flag 0 of MOT). track_ids: (N,) int64, the same number for the same object along a video.
    complete: whether every object of the classes has its box; False where others may be there without one (DAVIS).
    group: must be on one side of a split only (a video, a scene). subset: "train", "val", "test", or "" where the source has none.
    Raises ValueError where lengths or widths differ.
    """

    path: str
    width: int
    height: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    group: str
    frame_index: int | None = None
    time_s: float | None = None
    track_ids: NDArray[np.int64] | None = None
    complete: bool = True
    subset: str = ""

    def __post_init__(self) -> None:
        for name, kind in (("labels", np.int64), ("ignore", np.bool_), ("track_ids", np.int64)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), kind).reshape(-1))
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float32).reshape(-1, 4))
        lengths = {len(part) for part in (self.boxes, self.labels, self.ignore, self.track_ids) if part is not None}
        if len(lengths) != 1:
            raise ValueError(f"boxes, labels, ignore and track_ids differ in number: {sorted(lengths)}")

    @property
    def key(self) -> FrameKey:
        """What detections of this frame are filed under."""
        return self.path, self.frame_index

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, kw_only=True)
class BoxManifest:
    """All annotated frames of a data set, in the order of the source, and the names that their labels index."""

    name: str
    root: Path
    classes: tuple[str, ...]
    frames: tuple[LabelledFrame, ...]

    def select(self, subset: str) -> "BoxManifest":
        """Its frames of one side of the split. Raises ConfigError for a name that is no subset, DataError for an empty side."""
        if subset not in SUBSETS:
            raise unknown_name("subset", subset, SUBSETS)
        frames = tuple(frame for frame in self.frames if frame.subset == subset)
        if not frames:
            there = ", ".join(sorted({frame.subset or "(no subset)" for frame in self.frames})) or "no frame"
            raise DataError(f"data set '{self.name}' has no frame in subset '{subset}'", there=there)
        return dataclasses.replace(self, frames=frames)

    def thinned(self, every: int) -> "BoxManifest":
        """Its single images, and those frames of videos whose index is a multiple of `every`. Raises ValueError below 1."""
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        return dataclasses.replace(self, frames=tuple(frame for frame in self.frames if (frame.frame_index or 0) % every == 0))

    def write(self, path: Path | str) -> None:
        """Write atomically. A manifest inside its root can move with it; one written elsewhere keeps the absolute root.

        Raises DataError for frames that `read` would refuse.
        """
        path = Path(path)
        _check(self, f"manifest '{self.name}'", lambda number: f"manifest '{self.name}', frame {number + 1}")
        with atomic_write(path) as file:
            for row in (_header(self, path), *map(_row, self.frames)):
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path | str, root: Path | str | None = None) -> "BoxManifest":
        """Read and check. `root` overrides the data root (default: recorded in the header, else the manifest's folder).

        Raises DataError naming file and line for anything that is not as `write` leaves it, and for a root that is not a folder.
        """
        path = Path(path)
        row, *rows = manifest_rows(path, kind=KIND, version=SCHEMA_VERSION, counted="frames", fix=_ANEW)
        header = read_record(_Header, row, f"{path}:1", error=DataError, hint=_ANEW)
        frames = tuple(_frame(row, f"{path}:{number}") for number, row in enumerate(rows, start=2))
        data = data_root(path, header.root, root, fix="name the folder that the frames' paths start from")
        manifest = cls(name=header.name, root=data, classes=header.classes, frames=frames)
        _check(manifest, f"{path}:1", lambda number: f"{path}:{number + 2}")
        return manifest


_ANEW = "make the manifest again from the data set"


def _header(manifest: BoxManifest, path: Path) -> dict[str, Any]:
    header: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "name": manifest.name,
        "classes": list(manifest.classes),
        "frames": len(manifest.frames),
    }
    return {**header, **recorded_root(path, manifest.root)}


def _row(frame: LabelledFrame) -> dict[str, Any]:
    row: dict[str, Any] = {
        "path": frame.path,
        "frame_index": frame.frame_index,
        "time_s": frame.time_s,
        "width": frame.width,
        "height": frame.height,
        "boxes": [[float(str(side)) for side in box] for box in frame.boxes],  # the shortest number that reads back as this float32
        "labels": frame.labels.tolist(),
        "ignore": frame.ignore.tolist() if frame.ignore.any() else None,
        "track_ids": None if frame.track_ids is None else frame.track_ids.tolist(),
        "complete": None if frame.complete else False,
        "group": frame.group,
        "subset": frame.subset or None,
    }
    return {key: value for key, value in row.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The first line without its kind, version and number of frames."""

    name: str
    classes: tuple[str, ...]
    root: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A line of the file; see LabelledFrame."""

    path: str
    width: int
    height: int
    boxes: tuple[tuple[float, float, float, float], ...]
    labels: tuple[int, ...]
    group: str
    frame_index: int | None = None
    time_s: float | None = None
    ignore: tuple[bool, ...] | None = None
    track_ids: tuple[int, ...] | None = None
    complete: bool = True
    subset: str = ""


def _frame(row: dict[str, Any], where: str) -> LabelledFrame:
    record = read_record(_Row, row, where, error=DataError, hint=_ANEW)
    values = {entry.name: getattr(record, entry.name) for entry in dataclasses.fields(record)}
    if values["ignore"] is None:
        values["ignore"] = np.zeros(len(values["labels"]), bool)
    try:
        return LabelledFrame(**values)
    except ValueError as error:
        raise DataError(f"{where}: {error}", frame=row["path"], hint=_ANEW) from None


def _check(manifest: BoxManifest, where: str, where_frame: Callable[[int], str]) -> None:
    twice = sorted({name for name in manifest.classes if manifest.classes.count(name) > 1})
    if twice:
        raise DataError(f"{where}: class '{twice[0]}' is named twice", hint="give each class one name")
    seen: dict[FrameKey, int] = {}
    for number, frame in enumerate(manifest.frames):
        check_frame(frame, manifest.classes, where_frame(number))
        if (first := seen.setdefault(frame.key, number)) != number:
            raise DataError(f"{where_frame(number)}: the same frame as {where_frame(first)}", frame=frame.path, hint="keep one of the two")


def check_frame(frame: LabelledFrame, classes: Sequence[str], where: str) -> None:
    """Raise DataError, beginning with `where`, if the frame's values do not fit together or into these classes."""
    for what, hint in _problems(frame, classes):
        raise DataError(f"{where}: {what}", frame=frame.path, hint=hint)


def _problems(frame: LabelledFrame, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    path = PurePosixPath(frame.path)
    if path.is_absolute() or ".." in path.parts or not frame.path:
        yield "the path leaves the data root", "give paths relative to the root"
    if min(frame.width, frame.height) < 1:
        yield f"a frame of {frame.width} x {frame.height} pixels", "give width and height of the decoded frame"
    if frame.subset and frame.subset not in SUBSETS:
        yield f"unknown subset '{frame.subset}'", f"use one of {', '.join(SUBSETS)}, or none"
    if frame.frame_index is not None and frame.frame_index < 0:
        yield f"frame_index {frame.frame_index} is negative", "count decoded frames from 0"
    for box, label, ignored in zip(frame.boxes.tolist(), frame.labels.tolist(), frame.ignore.tolist(), strict=True):
        if not 0 <= label < len(classes) and not (ignored and label == ANY_CLASS):
            yield f"label {label} is out of range", f"use 0 to {len(classes) - 1}; {ANY_CLASS} only for an ignored region"
        if problem := box_problem(box, frame.width, frame.height):
            shown = ", ".join(f"{side:g}" for side in box)
            yield f"box ({shown}) is {problem}", f"give boxes as x1, y1, x2, y2 in pixels of a frame of {frame.width} x {frame.height}"


def box_problem(box: Sequence[float], width: int, height: int) -> str | None:
    """Why a box x1 y1 x2 y2 cannot be one of a frame of this size: "not finite", "empty" or "outside the frame"; None if it can."""
    if not all(map(math.isfinite, box)):
        return "not finite"
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        return "empty"
    return "outside the frame" if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height else None
