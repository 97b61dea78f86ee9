"""`Detections` as files of other tools, and back: JSON lines, COCO JSON, MOT text, CSV, `supervision`.

Writers take an open text file and any iterable, and hold one frame at a time, so that a stream of any length can pass; only full COCO JSON
remembers the index and time of each frame. Numbers are written as the shortest decimals that give the same float32 again.
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
from vidkd.base.extras import require
from vidkd.runtime.detections import Detections


def require_finite(detections: Detections) -> None:
    """Raises DataError if a box, a score or the time is NaN or infinite: no format can hold it so that others read it."""
    time_s = 0.0 if detections.time_s is None else detections.time_s
    for what, values in (("boxes", detections.boxes), ("scores", detections.scores), ("time_s", np.asarray(time_s))):
        if not np.isfinite(values).all():
            raise DataError(f"{what} of frame {detections.frame_index} are not finite", hint="find out which model or file they come from")


def decimals(values: NDArray[np.float32]) -> list[float]:
    """The shortest decimals that are these float32 again, as Python floats: 0.9, not 0.8999999761581421."""
    return [float(str(value)) for value in values.ravel()]


def corner_and_size(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """x1 y1 x2 y2 (N, 4) as x y width height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def names_of(detections: Detections, class_names: Sequence[str]) -> list[str]:
    """The name of each label. Raises ValueError if a label has none."""
    labels = detections.labels.tolist()
    if labels and not 0 <= min(labels) <= max(labels) < len(class_names):
        raise ValueError(f"labels {min(labels)} to {max(labels)} do not fit {len(class_names)} class names")
    return [class_names[label] for label in labels]


def to_row(detections: Detections, class_names: Sequence[str]) -> dict[str, Any]:
    """The content of the frame's line. Raises DataError if a number is not finite, ValueError if a label has no name."""
    require_finite(detections)
    numbers = decimals(detections.boxes)
    row = {
        "frame": detections.frame_index,
        "time_s": detections.time_s,
        "boxes": [numbers[start : start + 4] for start in range(0, len(numbers), 4)],
        "scores": decimals(detections.scores),
        "classes": names_of(detections, class_names),
    }
    return row if detections.track_ids is None else {**row, "track_ids": detections.track_ids.tolist()}


def write_json_lines(file: IO[str], frames: Iterable[Detections], class_names: Sequence[str]) -> None:
    """Write a line a frame. Raises as `to_row`."""
    for detections in frames:
        file.write(json.dumps(to_row(detections, class_names), ensure_ascii=False, allow_nan=False) + "\n")


def from_row(row: Mapping[str, Any], class_names: Sequence[str], where: str = "row") -> Detections:
    """The inverse of `to_row`; keys that it does not write are passed over.

    Raises DataError naming `where` if a key is missing, a value is not of its kind, the numbers do not belong together or are not finite;
    ConfigError if a class is not among the names.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    try:
        unknown = [name for name in row["classes"] if name not in labels]
        if unknown:
            raise unknown_name("class", str(unknown[0]), labels, where=where)
        found = Detections(
            boxes=row["boxes"],
            scores=row["scores"],
            labels=np.asarray([labels[name] for name in row["classes"]], np.int64),
            frame_index=_whole(row["frame"]),
            time_s=row["time_s"],
            track_ids=row.get("track_ids"),
        )
        require_finite(found)
    except DataError as error:
        raise DataError(error.what, where=where) from None
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise DataError("not a line of detections", where=where, reason=reason) from error
    return found


def read_json_lines(path: Path | str, class_names: Sequence[str]) -> Iterator[Detections]:
    """The frames of a file, one at a time, in its order; a torn last line (a killed writer) is left out.

    Raises DataError naming the line if another is no JSON, or as `from_row`; ConfigError for a class that is not among the names.
    """
    try:
        with Path(path).open("rb") as file:
            # A line without its end can only be the last one: a killed writer left it.
            whole = itertools.takewhile(lambda line: line.endswith(b"\n"), file)
            for number, line in enumerate(whole, start=1):
                yield from_row(_row(line, f"{path}:{number}"), class_names, f"{path}:{number}")
    except FileNotFoundError:
        raise DataError(f"file of detections not found: {path}") from None


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"frame is no whole number from 0: {value!r}")
    return value


def _row(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError("not JSON", where=where, reason=error) from error
    if not isinstance(row, dict):
        raise DataError("not a line of detections", where=where, reason="it is no mapping of keys to values")
    return row


def coco_rows(
    detections: Detections, class_names: Sequence[str], *, first_image: int = 0, category_ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Results of one frame: image_id, category_id, bbox [x, y, width, height] in pixels, score; and track_id where there is one.

    image_id is first_image + frame index, so that several videos can share a file. category_ids: that of each class, by default
    label + 1. Raises DataError if a number is not finite, ValueError if a label has no name or a class no id.
    """
    require_finite(detections)
    names_of(detections, class_names)
    ids = _category_ids(class_names, category_ids)
    numbers = decimals(corner_and_size(detections.boxes))
    rows = [
        {"image_id": first_image + detections.frame_index, "category_id": ids[label], "bbox": numbers[4 * k : 4 * k + 4], "score": score}
        for k, (label, score) in enumerate(zip(detections.labels.tolist(), decimals(detections.scores), strict=True))
    ]
    tracks = [] if detections.track_ids is None else detections.track_ids.tolist()
    for row, track in zip(rows, tracks, strict=False):
        row["track_id"] = track
    return rows


def write_coco_results(
    file: IO[str],
    frames: Iterable[Detections],
    class_names: Sequence[str],
    *,
    first_image: int = 0,
    category_ids: Sequence[int] | None = None,
) -> None:
    """Write the list of results of all frames. Arguments and errors as in `coco_rows`."""
    rows = (row for detections in frames for row in coco_rows(detections, class_names, first_image=first_image, category_ids=category_ids))
    _write_list(file, rows)
    file.write("\n")


def write_coco(
    file: IO[str],
    frames: Iterable[Detections],
    class_names: Sequence[str],
    *,
    size: tuple[int, int],
    video: str,
    category_ids: Sequence[int] | None = None,
) -> None:
    """Write a COCO data set whose images are the frames and whose annotations are the boxes, with their scores beside the usual keys.

    size: (width, height) of the frames. video: its name; an image's file_name is `<video>#<frame index>`, its frame_index and time_s stand
    beside. Ids of images are frame indices, those of annotations count from 1. category_ids and errors as in `coco_rows`.
    """
    seen: list[tuple[int, float | None]] = []
    file.write('{"annotations": ')
    _write_list(file, _annotations(frames, seen, class_names, category_ids))
    images = (
        {"id": index, "file_name": f"{video}#{index}", "width": size[0], "height": size[1], "frame_index": index, "time_s": time_s}
        for index, time_s in seen
    )
    file.write(',\n"images": ')
    _write_list(file, images)
    file.write(',\n"categories": ')
    ids = _category_ids(class_names, category_ids)
    _write_list(file, ({"id": id_, "name": name} for id_, name in zip(ids, class_names, strict=True)))
    file.write("}\n")


def _annotations(
    frames: Iterable[Detections],
    seen: list[tuple[int, float | None]],
    class_names: Sequence[str],
    category_ids: Sequence[int] | None,
) -> Iterator[dict[str, Any]]:
    """The annotations of all frames; index and time of each frame are put into `seen` as it passes."""
    number = 0
    for detections in frames:
        seen.append((detections.frame_index, detections.time_s))
        areas = corner_and_size(detections.boxes)[:, 2:].prod(1).astype(np.float32)
        for row, area in zip(coco_rows(detections, class_names, category_ids=category_ids), decimals(areas), strict=True):
            number += 1
            yield {"id": number, **row, "area": area, "iscrowd": 0}


def _write_list(file: IO[str], rows: Iterable[dict[str, Any]]) -> None:
    before = "[\n"
    for row in rows:
        file.write(before + json.dumps(row, ensure_ascii=False, allow_nan=False))
        before = ",\n"
    file.write("[]" if before == "[\n" else "\n]")


def _category_ids(class_names: Sequence[str], category_ids: Sequence[int] | None) -> Sequence[int]:
    ids = range(1, len(class_names) + 1) if category_ids is None else category_ids
    if len(ids) != len(class_names):
        raise ValueError(f"{len(ids)} category ids do not fit {len(class_names)} classes")
    return ids


UNTRACKED = -1


def mot_lines(detections: Detections) -> list[str]:
    """The lines of one frame, without line ends. The id is -1 where nobody tracked; where somebody did, boxes without a track are left out,
    for ids that repeat within a frame are none to those who judge tracks.

    The format has no room for classes: select one before. Pixels are not shifted: the left edge of a frame stays 0.
    Raises DataError if a number is not finite.
    """
    require_finite(detections)
    if detections.track_ids is not None:
        detections = detections.select(detections.track_ids != UNTRACKED)
    numbers, scores = decimals(corner_and_size(detections.boxes)), decimals(detections.scores)
    ids = [UNTRACKED] * len(detections) if detections.track_ids is None else detections.track_ids.tolist()
    places = [",".join(map(str, numbers[4 * k : 4 * k + 4])) for k in range(len(detections))]
    frame = detections.frame_index + 1
    return [f"{frame},{id_},{place},{score},-1,-1,-1" for id_, place, score in zip(ids, places, scores, strict=True)]


def write_mot(file: IO[str], frames: Iterable[Detections]) -> None:
    """Write the lines of all frames. Raises as `mot_lines`."""
    for detections in frames:
        file.writelines(f"{line}\n" for line in mot_lines(detections))


CSV_COLUMNS = ("frame", "time_s", "x1", "y1", "x2", "y2", "score", "class", "track_id")


def csv_rows(detections: Detections, class_names: Sequence[str]) -> list[tuple[object, ...]]:
    """The rows of one frame, in the order of CSV_COLUMNS; frames count from 0, an unknown time or track is left empty.

    Raises DataError if a number is not finite, ValueError if a label has no name.
    """
    require_finite(detections)
    time_s = "" if detections.time_s is None else detections.time_s
    numbers = decimals(detections.boxes)
    tracks: Sequence[object] = [""] * len(detections) if detections.track_ids is None else detections.track_ids.tolist()
    parts = zip(decimals(detections.scores), names_of(detections, class_names), tracks, strict=True)
    return [(detections.frame_index, time_s, *numbers[4 * k : 4 * k + 4], *part) for k, part in enumerate(parts)]


def write_csv(file: IO[str], frames: Iterable[Detections], class_names: Sequence[str]) -> None:
    """Write the column names and the rows of all frames. Raises as `csv_rows`."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for detections in frames:
        table.writerows(csv_rows(detections, class_names))


def to_supervision(detections: Detections, class_names: Sequence[str]) -> Any:
    """The boxes of a frame as `supervision.Detections`, class names in `data["class_name"]`; frame index and time have no place there.

    Raises DataError if a number is not finite, ValueError if a label has no name, MissingExtraError without supervision.
    """
    supervision = require("supervision", "detect")
    require_finite(detections)
    return supervision.Detections(
        xyxy=detections.boxes.copy(),
        confidence=detections.scores.copy(),
        class_id=detections.labels.copy(),
        tracker_id=None if detections.track_ids is None else detections.track_ids.copy(),
        data={"class_name": np.asarray(names_of(detections, class_names), dtype=np.str_)},
    )


def from_supervision(found: Any, *, frame_index: int = 0, time_s: float | None = None) -> Detections:
    """The inverse of `to_supervision`; frame_index and time_s are those of the frame.

    Raises ValueError if boxes come without scores or classes, DataError if a number is not finite.
    """
    if not len(found):
        return Detections.none(frame_index=frame_index, time_s=time_s)
    if found.confidence is None or found.class_id is None:
        raise ValueError("supervision's detections have no confidence or no class_id")
    detections = Detections(
        boxes=found.xyxy,
        scores=found.confidence,
        labels=found.class_id,
        frame_index=frame_index,
        time_s=time_s,
        track_ids=found.tracker_id,
    )
    require_finite(detections)
    return detections
