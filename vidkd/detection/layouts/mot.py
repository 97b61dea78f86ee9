"""MOT challenge: <sequence>/{img1/,seqinfo.ini,gt/gt.txt}, also below train/ and test/; rows `frame, id, x, y, w, h, flag, ...`.

Frames count from 1. With seqinfo.ini every frame of the sequence is annotated, and one without a row is empty. Without it (a text file
next to a video, say) only frames with a row are: the others are unknown. Flag 0 is a region to ignore. In the nine columns of MOT16 and
later, column 8 is a class: 1 is a person; 2, 7, 8, 12 and 13 (on a vehicle, static, distractor, reflection, crowd) are ignored, as in the
official evaluation; the others (vehicles, occluders) are no objects of this data set. x and y are taken unchanged, though some tools
count pixels from 1, so boxes may be off by one pixel. Format: Milan et al. 2016 (arXiv 1603.00831); classes from memory.
"""

import configparser
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import relative
from vidkd.data.layouts.lists import read_lines
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts.common import Box, BoxOptions, BoxReading, bare_frame, finish, not_found, subset_in, with_boxes
from vidkd.video import open_video
from vidkd.video.files import video_files
from vidkd.video.image_sequence import list_images

EXPECTED = "[train/]<sequence>/ with img1/, seqinfo.ini and gt/gt.txt, or one video and the text file that `annotations` names"
CLASSES = ("person",)
_PERSON, _NEUTRAL = 1, (2, 7, 8, 12, 13)


@dataclass(frozen=True, kw_only=True)
class MotRow:
    """One row. frame_index: from 0. score: column 7, in ground truth the flag. kind: column 8 of nine, else None."""

    frame_index: int
    track_id: int
    corners: tuple[float, float, float, float]
    score: float
    kind: int | None
    where: str


def read(root: Path, options: BoxOptions) -> BoxReading:
    """One class, "person". The group is the sequence; the subset is the folder above the sequences, where it is train, val or test."""
    left_out: Counter[str] = Counter()
    if options.annotations:
        frames = [frame for file in options.annotations for frame in frames_beside(root, _only_video(root), file, left_out)]
    else:
        folders = sorted({file.parent.parent for file in root.glob("**/gt/gt.txt")})
        frames = [frame for folder in folders for frame in _sequence(root, folder, left_out)]
    return finish("mot", root, CLASSES, frames, options, left_out, expected=EXPECTED)


def _rows(path: Path) -> list[MotRow]:
    """The rows of gt.txt. Raises DataError with file and line for anything else."""
    return [_row(where, line) for where, line in read_lines(path)]


def _row(where: str, line: str) -> MotRow:
    try:
        values = [float(part) for part in line.split(",")]
    except ValueError:
        values = []
    if not 6 <= len(values) <= 10 or not all(map(math.isfinite, values)):
        raise DataError(f"{where}: not a row of MOT: {line[:60]!r}", expected="frame, id, x, y, w, h, flag, ... (6 to 10 numbers)")
    frame, track, x, y, width, height = values[:6]
    if frame < 1 or frame != int(frame) or track != int(track):
        raise DataError(f"{where}: frame {frame:g}, id {track:g}", expected="whole numbers, frames from 1")
    kind = int(values[7]) if len(values) == 9 and values[7] != -1 else None
    corners = (x, y, x + width, y + height)
    score = values[6] if len(values) > 6 else 1.0
    return MotRow(frame_index=int(frame) - 1, track_id=int(track), corners=corners, score=score, kind=kind, where=where)


def _sequence(root: Path, folder: Path, left_out: Counter[str]) -> list[LabelledFrame]:
    annotations, info_file = folder / "gt" / "gt.txt", folder / "seqinfo.ini"
    if not info_file.is_file():
        return frames_beside(root, _only_video(folder), annotations, left_out)
    info = _Info.read(info_file)
    subset = subset_in(folder.parent.name) if folder != root else ""
    path = relative(folder / info.folder, root)
    images = len(list_images(str(root / path))) if (root / path).is_dir() else info.length
    if images != info.length:
        raise DataError(f"{info_file}: seqLength is {info.length}, {path} has {images} images", hint="unpack the sequence again")
    bare = [
        bare_frame(path, info.width, info.height, folder.name, frame_index=k, time_s=k / info.fps, subset=subset)
        for k in range(info.length)
    ]
    return _annotated(bare, _rows(annotations), left_out)


def frames_beside(
    root: Path, video: Path, annotations: Path, left_out: Counter[str], *, group: str | None = None, classes: Sequence[str] = CLASSES
) -> list[LabelledFrame]:
    """The frames of a video (or folder of images) that have a row in a text file, with the video's own timestamps.

    classes: what labels index; "person" must be among them.
    """
    path = relative(video, root)
    with open_video(video) as reader:
        width, height, times_s = reader.info.width, reader.info.height, reader.timestamps_s.tolist()
    rows = _rows(annotations)
    known = {row.frame_index for row in rows}
    bare = [
        bare_frame(path, width, height, group or path, frame_index=index, time_s=time_s)
        for index, time_s in enumerate(times_s)
        if index in known
    ]
    return _annotated(bare, rows, left_out, count=len(times_s), classes=classes)


def _annotated(
    bare: Sequence[LabelledFrame],
    rows: Sequence[MotRow],
    left_out: Counter[str],
    *,
    count: int | None = None,
    classes: Sequence[str] = CLASSES,
) -> list[LabelledFrame]:
    boxes: dict[int, list[Box]] = {}
    person = classes.index("person")
    most = len(bare) if count is None else count
    for row in rows:
        if row.frame_index >= most:
            raise DataError(f"{row.where}: frame {row.frame_index + 1} is after the last one, {most}")
        if row.kind not in (None, _PERSON, *_NEUTRAL):
            left_out["of other classes of MOT"] += 1
            continue
        ignore = row.score == 0 or row.kind in _NEUTRAL
        boxes.setdefault(row.frame_index, []).append(Box(corners=row.corners, label=person, ignore=ignore, track_id=row.track_id))
    return [with_boxes(frame, boxes.get(frame.frame_index or 0, ()), left_out, classes, frame.path) for frame in bare]


def _only_video(folder: Path) -> Path:
    images = folder / "img1"
    found = video_files(folder) or ([images] if images.is_dir() else [])
    if len(found) != 1:
        raise not_found("mot", folder, EXPECTED, f"{len(found)} videos")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class _Info:
    folder: str
    length: int
    width: int
    height: int
    fps: float

    @classmethod
    def read(cls, path: Path) -> "_Info":
        parser = configparser.ConfigParser()
        try:
            parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
            section = parser["Sequence"]
            info = cls(
                folder=section.get("imDir", "img1"),
                length=int(section["seqLength"]),
                width=int(section["imWidth"]),
                height=int(section["imHeight"]),
                fps=float(section["frameRate"]),
            )
        except (configparser.Error, UnicodeDecodeError, KeyError, ValueError) as error:
            raise DataError(f"not a seqinfo.ini: {path}", reason=error, expected="[Sequence] with seqLength, ...") from None
        if min(info.length, info.width, info.height) < 1 or not 0 < info.fps < math.inf:
            raise DataError(f"{path}: seqLength, imWidth, imHeight and frameRate must be positive")
        return info
