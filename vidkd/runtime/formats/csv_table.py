"""CSV: a line a box, under a line of column names."""

import csv
from collections.abc import Iterable, Sequence
from typing import IO

from vidkd.runtime.detections import Detections
from vidkd.runtime.formats.numbers import decimals, names_of, require_finite

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
