"""predictions.csv of a run, read back: of whole clips, or at every observed fraction where it has a column `observed`."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.engine.evaluate import PREDICTION_COLUMNS

_OBSERVED = "observed"
Row = tuple[int, Mapping[str, str]]
"""A row and its line in the file."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The labelled rows of predictions.csv: (N,) labels and predictions in 0..K-1, probabilities (N, K), names of clips and groups."""

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    clips: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def correct(self) -> NDArray[np.float64]:
        """(N,) 1 for a clip that was named rightly, else 0."""
        return np.asarray(self.labels == self.predicted, np.float64)


def read_predictions(path: Path | str) -> dict[float | None, Judged]:
    """Read predictions.csv: observed fraction -> what was judged there, rising; {None: all} without the column `observed`.

    Rows without a label are left out. Raises DataError if columns are missing, a number is none, a label is not a class, no row has a
    label, an observed fraction lies outside (0, 1], or not the same clips were judged at all fractions.
    """
    path = Path(path)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        classes = tuple(name[2:] for name in columns if name.startswith("p_"))
        missing = [name for name in PREDICTION_COLUMNS if name not in columns]
        if missing or not classes:
            raise DataError(f"not a table of predictions: {path}", missing=", ".join(missing) or "p_<class>")
        rows = [(reader.line_num, row) for row in reader if row["label"]]
    if not rows:
        raise DataError(f"no clip with a label in {path}")
    by_fraction: dict[float | None, list[Row]] = {}
    for line, row in rows:
        by_fraction.setdefault(_fraction(row, line, path) if _OBSERVED in columns else None, []).append((line, row))
    _check_same_clips(by_fraction, path)
    return {fraction: _judged(by_fraction[fraction], classes, path) for fraction in sorted(by_fraction, key=lambda found: found or 0.0)}


def has_label(path: Path) -> bool:
    """Whether a row has a label; true for what is no such table, which reading it reports."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return "label" not in (reader.fieldnames or ()) or any(row["label"] for row in reader)


def _fraction(row: Mapping[str, str], line: int, path: Path) -> float:
    try:
        fraction = float(row[_OBSERVED])
    except (ValueError, TypeError):
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise DataError(f"an observed fraction must lie in (0, 1] in {path}", line=line, found=row[_OBSERVED] or "nothing")
    return fraction


def _check_same_clips(rows: Mapping[float | None, Sequence[Row]], path: Path) -> None:
    """Every fraction judges the same clips in the same order, with the same labels."""
    keys = ("clip", "start_s", "end_s", "group", "label")
    judged = {fraction: [tuple(row[key] for key in keys) for _, row in found] for fraction, found in rows.items()}
    first, *others = judged
    for fraction in others:
        if judged[fraction] != judged[first]:
            counts = f"{len(judged[first])} at {first:g}, {len(judged[fraction])} at {fraction:g}"
            raise DataError(f"not the same clips at all observed fractions in {path}", clips=counts)


def _judged(rows: Sequence[Row], classes: tuple[str, ...], path: Path) -> Judged:
    place = {name: number for number, name in enumerate(classes)}
    try:
        labels, predicted = (np.array([place[row[column]] for _, row in rows], np.int64) for column in ("label", "predicted"))
        probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for _, row in rows])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"a row cannot be read in {path}", line=_first_bad_line(rows, place), reason=error) from error
    names, groups = (tuple(row[column] for _, row in rows) for column in ("clip", "group"))
    return Judged(classes=classes, labels=labels, predicted=predicted, probabilities=probabilities, clips=names, groups=groups)


def _first_bad_line(rows: Sequence[Row], place: Mapping[str, int]) -> int | None:
    for line, row in rows:
        try:
            [float(row[f"p_{name}"]) for name in place]
        except (ValueError, TypeError):
            return line
        if row["label"] not in place or row["predicted"] not in place:
            return line
    return None
