"""JSON lines, one a frame: vidkd's own format, which keeps everything and can be read while it is written.

`{"frame": 12, "time_s": 0.48, "boxes": [[x1, y1, x2, y2], ...], "scores": [...], "classes": ["person", ...], "track_ids": [...]}`; frames
count from 0, time_s is null where the frame has no time, track_ids are left out where nothing was tracked. Other keys may stand there too.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from vidkd.base.errors import DataError, unknown_name
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats.numbers import decimals, names_of, require_finite


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
