"""Lists in CSV: rows by column, each with the line it stands on."""

import csv
from collections.abc import Collection, Sequence
from pathlib import Path

from vidkd.base.errors import DataError, nearest


def read_table(path: Path, required: Sequence[str], *, known: Collection[str] | None = None) -> dict[int, dict[str, str]]:
    """Line number -> the row's values by column, stripped of blanks around them.

    known: the only columns that may stand there; None: others are let pass. Raises DataError for a file that is not CSV in UTF-8, columns
    that are missing (each is named) or unknown, and a row of another length.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, list(reader.fieldnames or ()), required, known)
            rows = {}
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{path}:{reader.line_num}: not {len(reader.fieldnames or ())} values", hint="quote values with commas")
                rows[reader.line_num] = {column: value.strip() for column, value in row.items()}
            return rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"not a CSV file in UTF-8: {path}", reason=error) from None


def _check_columns(path: Path, columns: Sequence[str], required: Sequence[str], known: Collection[str] | None) -> None:
    for column in columns if known is not None else ():
        if column not in (known or ()):
            close = nearest(column, known or ())
            raise DataError(
                f"{path}:1: unknown column '{column}'", **({"did_you_mean": close} if close else {}), known=", ".join(known or ())
            )
    missing = [column for column in required if column not in columns]
    if missing:
        names = ", ".join(f"'{column}'" for column in missing)
        what = f"column {names} is missing" if len(missing) == 1 else f"columns {names} are missing"
        raise DataError(f"{path}:1: {what}", expected=", ".join(known or required), found=", ".join(columns) or "an empty file")
