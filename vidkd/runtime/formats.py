"""`Detections` as files of other tools, and back: JSON lines, COCO JSON, MOT text, CSV.

Writers take an open text file and any iterable, and hold one frame at a time, so that a stream of any length can pass; COCO JSON remembers
the index and time of each frame. Numbers are written as the shortest decimals that give the same float32 again.
All raise DataError for a box, score or time that is not finite.
"""

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError, unknown_name
from vidkd.base.files import parse_json
from vidkd.runtime.detections import Detections

UNTRACKED = -1
CSV_COLUMNS = ("frame", "time_s", "x1", "y1", "x2", "y2", "score", "class", "track_id")


def require_finite(detections: Detections) -> None:
    """Raises DataError if a box, a score or the time is NaN or infinite: no format can hold it so that others read it."""
    for what, values in (("boxes", detections.boxes), ("scores", detections.scores), ("time_s", detections.time_s or 0.0)):
        if not np.isfinite(values).all():
            raise DataError(f"{what} of frame {detections.frame_index} are not finite", hint="find out which model or file they come from")


def _rows(detections: Detections, *, sized: bool = False) -> Iterator[tuple[list[float], float, int, int | None]]:
    """Box (x1 y1 x2 y2; sized: x y width height), score, label and track of each detection.

    Numbers are the shortest decimals that are these float32 again: 0.9, not 0.8999999761581421.
    """
    require_finite(detections)
    boxes = detections.boxes
    if sized:
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    tracks = itertools.repeat(None) if detections.track_ids is None else detections.track_ids.tolist()
    for box, score, label, track in zip(boxes, detections.scores, detections.labels.tolist(), tracks, strict=False):
        yield decimals(box), float(str(score)), label, track


def decimals(values: NDArray[np.float32]) -> list[float]:
    """The shortest decimals that are these float32 again, as Python floats."""
    return [float(str(value)) for value in values]


def to_row(detections: Detections, class_names: Sequence[str]) -> dict[str, Any]:
    """The content of the frame's line. Raises DataError if a number is not finite, IndexError if a label has no name."""
    rows = list(_rows(detections))
    row = {
        "frame": detections.frame_index,
        "time_s": detections.time_s,
        "boxes": [box for box, *_ in rows],
        "scores": [score for _, score, *_ in rows],
        "classes": [class_names[label] for *_, label, _ in rows],
    }
    return row if detections.track_ids is None else {**row, "track_ids": detections.track_ids.tolist()}


def from_row(row: Mapping[str, Any], class_names: Sequence[str], where: str = "row") -> Detections:
    """The inverse of `to_row`; other keys are ignored.

    Raises DataError naming `where` if a key is missing, a value is not of its kind, the numbers do not belong together or are not finite;
    ConfigError if a class is not among the names.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    try:
        if unknown := [name for name in row["classes"] if name not in labels]:
            raise unknown_name("class", str(unknown[0]), labels, where=where)
        found = Detections(
            boxes=row["boxes"],
            scores=row["scores"],
            labels=np.asarray([labels[name] for name in row["classes"]], np.int64),
            frame_index=row["frame"],
            time_s=row["time_s"],
            track_ids=row.get("track_ids"),
        )
        require_finite(found)
    except DataError as error:
        raise error.with_lines(where=where) from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("not a line of detections", where=where, reason=repr(error)) from error
    return found


def read_json_lines(path: Path | str, class_names: Sequence[str]) -> Iterator[Detections]:
    """The frames of a file, one at a time, in its order; a torn last line (a killed writer) is left out.

    Raises DataError naming the line if another is no JSON, or as `from_row`; ConfigError for a class that is not among the names.
    """
    if not Path(path).exists():
        raise DataError(f"file of detections not found: {path}")
    with Path(path).open("rb") as file:
        # A line without its end can only be the last one: a killed writer left it.
        for number, line in enumerate(itertools.takewhile(lambda line: line.endswith(b"\n"), file), start=1):
            where = f"{path}:{number}"
            yield from_row(parse_json(line.decode("utf-8", "replace"), where), class_names, where)


def write_coco(file: IO[str], frames: Iterable[Detections], class_names: Sequence[str], *, size: tuple[int, int], video: str) -> None:
    """Write a COCO data set whose images are the frames and whose annotations are the boxes, each with its score.

    size: (width, height) of the frames. video: its name; an image's file_name is `<video>#<frame index>`, with its frame_index and time_s.
    Ids of images are frame indices, those of categories labels + 1, those of annotations count from 1.
    """
    seen: list[tuple[int, float | None]] = []
    file.write('{"annotations": ')
    _write_list(file, _annotations(frames, seen))
    images = (
        {"id": index, "file_name": f"{video}#{index}", "width": size[0], "height": size[1], "frame_index": index, "time_s": time_s}
        for index, time_s in seen
    )
    file.write(',\n"images": ')
    _write_list(file, images)
    file.write(',\n"categories": ')
    _write_list(file, ({"id": label + 1, "name": name} for label, name in enumerate(class_names)))
    file.write("}\n")


def _annotations(frames: Iterable[Detections], seen: list[tuple[int, float | None]]) -> Iterator[dict[str, Any]]:
    """The annotations of all frames; index and time of each frame are put into `seen` as it passes."""
    number = itertools.count(1)
    for detections in frames:
        seen.append((detections.frame_index, detections.time_s))
        for box, score, label, track in _rows(detections, sized=True):
            area = float(str(np.float32(box[2]) * np.float32(box[3])))
            row = {"id": next(number), "image_id": detections.frame_index, "category_id": label + 1, "bbox": box, "score": score}
            yield {**row, **({} if track is None else {"track_id": track}), "area": area, "iscrowd": 0}


def _write_list(file: IO[str], rows: Iterable[dict[str, Any]]) -> None:
    before = "[\n"
    for row in rows:
        file.write(before + json.dumps(row, ensure_ascii=False, allow_nan=False))
        before = ",\n"
    file.write("[]" if before == "[\n" else "\n]")


def write_mot(file: IO[str], frames: Iterable[Detections]) -> None:
    """Write a line for each box: frame from 1, id, x, y, width, height, score.

    The id is -1 where nothing was tracked; where something was, boxes without a track are left out, as ids that repeat within a frame are
    none to those who judge tracks. The format has no room for classes: select one before. Pixels are not shifted: the left edge stays 0.
    """
    for detections in frames:
        frame = detections.frame_index + 1
        for box, score, _, track in _rows(detections, sized=True):
            if track is None or track != UNTRACKED:
                file.write(f"{frame},{UNTRACKED if track is None else track},{','.join(map(str, box))},{score},-1,-1,-1\n")


def write_csv(file: IO[str], frames: Iterable[Detections], class_names: Sequence[str]) -> None:
    """Write the column names and a row for each box; frames count from 0, an unknown time or track is left empty."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for detections in frames:
        for box, score, label, track in _rows(detections):
            # None is written as nothing
            table.writerow((detections.frame_index, detections.time_s, *box, score, class_names[label], track))
