"""predictions.csv of a run, read back: of whole clips, or at every observed fraction where it has a column `observed`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError, require
from vidkd.data.layouts.common import shortened
from vidkd.engine.evaluate import PREDICTION_COLUMNS

_OBSERVED = "observed"


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

    Rows without a label are left out; nothing is left where none has one. Raises DataError if columns are missing, a number is none, or a
    label is not a class.
    """
    pandas: Any = require("pandas", "report")
    rows = pandas.read_csv(path, dtype=str, keep_default_na=False)
    classes = tuple(name[2:] for name in rows.columns if name.startswith("p_"))
    missing = [name for name in PREDICTION_COLUMNS if name not in rows.columns]
    if missing or not classes:
        raise DataError(f"not a table of predictions: {path}", missing=", ".join(missing) or "p_<class>")
    rows = rows[rows["label"] != ""]
    try:
        rows[_OBSERVED] = rows[_OBSERVED].astype(float) if _OBSERVED in rows.columns else 0.0
        return {fraction or None: _judged(of, classes) for fraction, of in rows.groupby(_OBSERVED)}
    except (KeyError, ValueError) as error:
        reason = f"{error} is none of the classes: {shortened(classes)}" if isinstance(error, KeyError) else error
        raise DataError(f"a row cannot be read in {path}", reason=reason, hint="vidkd evaluate writes it again") from error


def _judged(rows: Any, classes: tuple[str, ...]) -> Judged:
    place = {name: number for number, name in enumerate(classes)}
    labels, predicted = (np.array([place[name] for name in rows[column]], np.int64) for column in ("label", "predicted"))
    return Judged(
        classes=classes,
        labels=labels,
        predicted=predicted,
        probabilities=rows[[f"p_{name}" for name in classes]].to_numpy(np.float64),
        clips=tuple(rows["clip"]),
        groups=tuple(rows["group"]),
    )
