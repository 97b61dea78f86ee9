"""The cells of a study on disk: JSON lines while it runs, one Parquet file once it has ended."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkd.base.extras import require
from vidkd.base.files import append_jsonl, atomic_write, read_jsonl

ROWS = ("predictions", "counts", "annotated", "called", "kept")
"""Parts of a cell that hold a value per clip or frame: a column each (`predictions.label`). All else is JSON in the column `record`."""
KEY = ("phase", "cell")
"""Columns that name a cell: the phase and the name of its key."""


@dataclass(frozen=True)
class Store:
    """parquet: of the cells of all commands that have ended. lines: of those of a command that runs, or was killed."""

    parquet: Path
    lines: Path

    def cells(self, phase: str) -> dict[str, dict[str, Any]]:
        """The finished cells of a phase by name, those of the lines over those of the table."""
        table = _read(self.parquet) if self.parquet.exists() else []
        return {cell["cell"]: cell for cell in [*table, *read_jsonl(self.lines)] if cell["phase"] == phase}

    def names(self, phase: str) -> set[str]:
        """The names of the finished cells of a phase."""
        columns = (
            require("pyarrow.parquet", "report").read_table(self.parquet, columns=list(KEY)).to_pylist() if self.parquet.exists() else []
        )
        return {cell["cell"] for cell in [*columns, *read_jsonl(self.lines)] if cell["phase"] == phase}

    def append(self, cell: Mapping[str, Any]) -> None:
        """Add a finished cell to the lines, in one write."""
        append_jsonl(self.lines, cell)

    def fold(self) -> None:
        """Move the lines into the table. A kill in between loses nothing: lines that are in the table already are the same cells."""
        lines = read_jsonl(self.lines)
        if not lines:
            return
        cells = {tuple(cell[name] for name in KEY): cell for cell in (_read(self.parquet) if self.parquet.exists() else [])}
        cells |= {tuple(cell[name] for name in KEY): cell for cell in lines}
        write_cells(self.parquet, list(cells.values()))
        self.lines.unlink()


def write_cells(path: Path, cells: list[dict[str, Any]]) -> None:
    """Write cells as one Parquet file, atomically. Of tuning cells the rows are left out: their scores are in the record and the choice."""
    arrow, parquet = require("pyarrow", "report"), require("pyarrow.parquet", "report")
    rows = [_flat(cell) for cell in sorted(cells, key=lambda cell: (cell["phase"], cell["cell"]))]
    columns = [*KEY, "record", *sorted({name for row in rows for name in row} - {*KEY, "record"})]
    table = arrow.table({name: arrow.array([row.get(name) for row in rows]) for name in columns})
    with atomic_write(path, "wb") as file:
        parquet.write_table(table, file, compression="zstd", compression_level=19)


def _flat(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell as a row of the table."""
    kept = () if cell["phase"] == "tune" else [name for name in ROWS if cell.get(name) is not None]
    record = {name: value for name, value in cell.items() if name not in (*KEY, *ROWS)}
    row: dict[str, Any] = {**{name: cell[name] for name in KEY}, "record": json.dumps(record, allow_nan=False)}
    for name in kept:
        row |= {f"{name}.{key}": values for key, values in cell[name].items()} if isinstance(cell[name], Mapping) else {name: cell[name]}
    return row


def _read(path: Path) -> list[dict[str, Any]]:
    found = require("pyarrow.parquet", "report").read_table(path, memory_map=False).to_pylist()
    return [_cell(row) for row in found]


def _cell(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table as the cell that it was."""
    cell: dict[str, Any] = {**{name: row[name] for name in KEY}, **json.loads(row["record"])}
    for name, values in row.items():
        part, _, key = name.partition(".")
        if part in ROWS and values is not None:
            if key:
                cell.setdefault(part, {})[key] = values
            else:
                cell[part] = values
    return cell
