"""`Detections` as files of other tools, and back: JSON lines, COCO JSON, MOT text, CSV, `supervision`.

Writers take an open text file and any iterable, and hold one frame at a time, so that a stream of any length can pass; only full COCO JSON
remembers the index and time of each frame. Numbers are written as the shortest decimals that give the same float32 again.
All raise DataError for a box, score or time that is not finite.
"""

from vidkd.runtime.formats.coco import coco_rows, write_coco, write_coco_results
from vidkd.runtime.formats.csv_table import CSV_COLUMNS, csv_rows, write_csv
from vidkd.runtime.formats.json_lines import from_row, read_json_lines, to_row, write_json_lines
from vidkd.runtime.formats.mot import mot_lines, write_mot
from vidkd.runtime.formats.supervision_boxes import from_supervision, to_supervision

__all__ = [
    "CSV_COLUMNS",
    "coco_rows",
    "csv_rows",
    "from_row",
    "from_supervision",
    "mot_lines",
    "read_json_lines",
    "to_row",
    "to_supervision",
    "write_coco",
    "write_coco_results",
    "write_csv",
    "write_json_lines",
    "write_mot",
]
