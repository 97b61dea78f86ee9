"""The cells of a study on disk: JSON lines while it runs, one Parquet file once it has ended."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkd.base.errors import require
from vidkd.base.files import append_jsonl, atomic_write, read_jsonl

ROWS = ("predictions", "counts", "annotated", "called", "kept")
"""Parts of a cell that hold a value per clip or frame: a column each (`predictions.label`). All else is JSON in the column `record`."""


@dataclass(frozen=True)
class Store:
    """parquet: of the cells of all commands that have ended. lines: of those of a command that runs, or was killed."""

    parquet: Path
    lines: Path

    def cells(self, phase: str) -> dict[str, dict[str, Any]]:
        """The finished cells of a phase by name, those of the lines over those of the table."""
        return {cell["cell"]: cell for cell in self._all() if cell["phase"] == phase}

    def _all(self) -> list[dict[str, Any]]:
        rows = require("pyarrow.parquet", "report").read_table(self.parquet).to_pylist() if self.parquet.exists() else []
        return [*map(_cell, rows), *read_jsonl(self.lines)]

    def append(self, cell: Mapping[str, Any]) -> None:
        """Add a finished cell to the lines, in one write."""
        append_jsonl(self.lines, cell)

    def fold(self) -> None:
        """Move the lines into the table. A kill in between loses nothing: lines that are in the table already are the same cells."""
        if self.lines.exists():
            write_cells(self.parquet, list({(cell["phase"], cell["cell"]): cell for cell in self._all()}.values()))
            self.lines.unlink()


def write_cells(path: Path, cells: list[dict[str, Any]]) -> None:
    """Write cells as one Parquet file, atomically. Of tuning cells the rows are left out: their scores are in the record."""
    arrow, parquet = require("pyarrow", "report"), require("pyarrow.parquet", "report")
    rows = [_row(cell) for cell in sorted(cells, key=lambda cell: (cell["phase"], cell["cell"]))]
    first = ("phase", "cell", "record")
    columns = [*first, *sorted({name for row in rows for name in row} - {*first})]
    with atomic_write(path, "wb") as file:
        table = arrow.table({name: arrow.array([row.get(name) for row in rows]) for name in columns})
        parquet.write_table(table, file, compression="zstd", compression_level=19)


def _row(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell as a row of the table."""
    named = {name: cell[name] for name in ("phase", "cell")}
    record = {name: value for name, value in cell.items() if name not in (*named, *ROWS)}
    row = {**named, "record": json.dumps(record, allow_nan=False)}
    for name in ROWS if cell["phase"] != "tune" else ():
        part = cell.get(name)
        row |= {f"{name}.{key}": values for key, values in part.items()} if isinstance(part, Mapping) else {name: part}
    return row


def _cell(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table as the cell that it was."""
    cell: dict[str, Any] = {"phase": row["phase"], "cell": row["cell"], **json.loads(row["record"])}
    for name, values in row.items():
        part, _, key = name.partition(".")
        if part in ROWS and values is not None:
            (cell.setdefault(part, {}) if key else cell)[key or part] = values
    return cell
