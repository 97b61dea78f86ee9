"""A CSV file with the columns path,label and optionally start_s, end_s, group, split, one clip a row."""

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vidkd.base.errors import DataError, nearest
from vidkd.data.layouts.folder import SPLIT, group_of, seeded_split
from vidkd.data.layouts.layout import Options, Reading, compiled, hashes, not_found, shortened
from vidkd.data.manifest import SUBSETS, Clip, Manifest, check_clip

EXPECTED = "clips.csv (or --list FILE) with the columns path,label and optionally start_s,end_s,group,split"
COLUMNS = ("path", "label", "start_s", "end_s", "group", "split")


def read(root: Path, options: Options) -> Reading:
    """Labels are names, or numbers throughout; an empty one is an unlabelled clip. Without the column split, 70 % of the groups train."""
    if not root.is_dir():
        not_found("csv", root, EXPECTED, f"{root} is {'no folder' if root.exists() else 'missing'}")
    path = options.list_file or root / "clips.csv"
    if not path.is_file():
        not_found("csv", root, EXPECTED, f"{path} is missing")
    rows = _rows(path)
    labels = {row["label"] for row in rows.values()} - {""}
    classes = sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
    pattern = compiled(options.group_pattern)
    clips = [_clip(row, classes, pattern, f"{path}:{line}") for line, row in rows.items()]
    absent = tuple(dict.fromkeys(clip.path for clip in clips if not (root / clip.path).is_file()))
    here = [clip for clip in clips if clip.path not in set(absent)]
    _check_there(root, path, absent, here, options)
    if not any(row.get("split") for row in rows.values()):
        here = seeded_split(here, options)
    manifest = Manifest(
        name=path.stem if options.list_file else root.name or "csv",
        root=root,
        classes=tuple(classes),
        splits=(SPLIT,),
        clips=tuple(here),
        sources=hashes(root, [path]),
    )
    return Reading(manifest=manifest, absent=absent)


def _check_there(root: Path, path: Path, absent: tuple[str, ...], here: list[Clip], options: Options) -> None:
    if not here:
        not_found("csv", root, EXPECTED, f"none of the files that {path} names ({shortened(absent)})" if absent else f"no row in {path}")
    if absent and not options.allow_missing:
        raise DataError(
            f"{len(absent)} files that {path} names are missing",
            looked_in=root,
            missing=shortened(absent),
            to_mend="give paths relative to --root, or leave them out with --allow-missing",
        )


def _rows(path: Path) -> dict[int, dict[str, str]]:
    """Line number -> the row's values by column, stripped of blanks around them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, list(reader.fieldnames or ()))
            rows = {}
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}:{reader.line_num}: not {len(reader.fieldnames or ())} values", to_mend="quote values with commas"
                    )
                rows[reader.line_num] = {column: value.strip() for column, value in row.items()}
            return rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"not a CSV file in UTF-8: {path}", reason=error) from None


def _check_columns(path: Path, columns: list[str]) -> None:
    for column in columns:
        if column not in COLUMNS:
            close = nearest(column, COLUMNS)
            raise DataError(f"{path}:1: unknown column '{column}'", **({"did_you_mean": close} if close else {}), known=", ".join(COLUMNS))
    for column in ("path", "label"):
        if column not in columns:
            raise DataError(f"{path}:1: column '{column}' is missing", expected=EXPECTED)


def _clip(row: Mapping[str, str], classes: list[str], pattern: re.Pattern[str] | None, where: str) -> Clip:
    if row.get("split") and row["split"] not in SUBSETS:
        raise DataError(f"{where}: split {row['split']!r} is not one of {', '.join(SUBSETS)}")
    if not row["path"]:
        raise DataError(f"{where}: no path", to_mend="give the path of a video, relative to --root")
    path = PurePosixPath(row["path"])
    clip = Clip(
        path=str(path),
        label=classes.index(row["label"]) if row["label"] else None,
        group=row.get("group") or group_of(str(path), pattern),
        subsets={SPLIT: row["split"]} if row.get("split") else {},
        start_s=_seconds(row, "start_s", where) or 0.0,
        end_s=_seconds(row, "end_s", where),
    )
    check_clip(clip, classes, [SPLIT], where)
    return clip


def _seconds(row: Mapping[str, str], column: str, where: str) -> float | None:
    if not row.get(column):
        return None
    try:
        seconds = float(row[column])
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise DataError(f"{where}: {column} {row[column]!r} is not a number of seconds")
    return seconds
