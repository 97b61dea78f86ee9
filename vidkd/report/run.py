"""The report of a run: from the files in its folder."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import read_jsonl
from vidkd.bench.intervals import Cell, bootstrap_ci
from vidkd.engine.metrics import class_mean, confusion_matrix, per_class
from vidkd.models.saved import checkpoint_in
from vidkd.report.figures import confusion_figure, reliability_diagram, training_curves
from vidkd.report.parts import Estimate, Figure, Report, Strip, Table, TableCell, is_share

_PREDICTION_COLUMNS = ("clip", "start_s", "end_s", "group", "label", "predicted", "correct")
_COMMAND = re.compile(r"#\s*(vidkd .*|python .*)")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The labelled rows of predictions.csv: (N,) labels and predictions in 0..K-1, probabilities (N, K), names of clips and groups."""

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    clips: tuple[str, ...]
    groups: tuple[str, ...]


def run_report(
    folder: Path | str, *, command: str = "", notes: Mapping[str, str] | None = None, strips: Sequence[Strip] = (), seed: int = 0
) -> Report:
    """What config.yaml, metrics.jsonl, predictions.csv and environment.txt of a run folder say; all but the first may be missing.

    A predictions.csv older than the run's checkpoint judges weights that are gone, and one without a label judges nothing: both are left
    out.

    command: by default the command in the comment that config.yaml begins with. notes: facts for the head of the page.
    Raises DataError if there is no config.yaml or a file is not as it should be.
    """
    folder = Path(folder)
    config_text = _text(folder / "config.yaml")
    if config_text is None:
        raise DataError("not the folder of a run: config.yaml is missing", looked_in=folder)
    rows = read_jsonl(folder / "metrics.jsonl")
    judged = _judged(folder)
    written = _COMMAND.match(config_text)
    return Report(
        title=folder.resolve().name,
        subtitle="One run: how it was trained and what it got right.",
        command=command or (written[1].strip() if written else ""),
        config_text=config_text,
        tables=tuple(_tables(rows, judged, seed)),
        figures=tuple(training_curves(rows) + (_judged_figures(judged) if judged else [])),
        strips=tuple(strips),
        notes={**_notes(rows, judged), **(notes or {})},
        environment=_environment(_text(folder / "environment.txt") or ""),
    )


def _judged(folder: Path) -> Judged | None:
    table, checkpoint = folder / "predictions.csv", checkpoint_in(folder)
    if not table.exists() or (checkpoint.exists() and table.stat().st_mtime_ns < checkpoint.stat().st_mtime_ns):
        return None
    return read_predictions(table) if _has_label(table) else None


def _has_label(table: Path) -> bool:
    """Whether a row has a label; true for what is no such table, which reading it tells."""
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return "label" not in (reader.fieldnames or ()) or any(row["label"] for row in reader)


def read_predictions(path: Path | str) -> Judged:
    """Read predictions.csv; rows without a label are left out.

    Raises DataError if columns are missing, a number is none, a label is not a class, or no row has a label.
    """
    path = Path(path)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        classes = tuple(name[2:] for name in columns if name.startswith("p_"))
        missing = [name for name in _PREDICTION_COLUMNS if name not in columns]
        if missing or not classes:
            raise DataError(f"not a table of predictions: {path}", missing=", ".join(missing) or "p_<class>")
        rows = [(reader.line_num, row) for row in reader if row["label"]]
    if not rows:
        raise DataError(f"no clip with a label in {path}")
    place = {name: number for number, name in enumerate(classes)}
    try:
        labels, predicted = (np.array([place[row[column]] for _, row in rows], np.int64) for column in ("label", "predicted"))
        probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for _, row in rows])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"a row cannot be read in {path}", line=_first_bad_line(rows, place), reason=error) from error
    names, groups = (tuple(row[column] for _, row in rows) for column in ("clip", "group"))
    return Judged(classes=classes, labels=labels, predicted=predicted, probabilities=probabilities, clips=names, groups=groups)


def _first_bad_line(rows: Sequence[tuple[int, Mapping[str, str]]], place: Mapping[str, int]) -> int | None:
    for line, row in rows:
        try:
            [float(row[f"p_{name}"]) for name in place]
        except (ValueError, TypeError):
            return line
        if row["label"] not in place or row["predicted"] not in place:
            return line
    return None


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _environment(text: str) -> Mapping[str, str] | str:
    """A mapping where every line is "name: value", otherwise the text as it stands."""
    lines = [line.partition(": ") for line in text.splitlines() if line.strip()]
    return {name: value for name, _, value in lines} if all(colon for _, colon, _ in lines) else text


def _tables(rows: Sequence[Mapping[str, Any]], judged: Judged | None, seed: int) -> list[Table]:
    tables = [_judged_table(judged, seed)] if judged else []
    validations = [row for row in rows if row["split"] != "train"]
    if validations:
        tables.append(_validation_table(validations))
    return [*tables, _class_table(judged)] if judged else tables


def _judged_table(judged: Judged, seed: int) -> Table:
    correct = judged.labels == judged.predicted
    cell = Cell(seed=0, fold="all", correct=correct, group=judged.groups)
    interval = bootstrap_ci([cell], over=("groups",), seed=seed)
    row: tuple[TableCell, ...] = (
        Estimate(value=interval.mean, ci95=interval.ci95),
        Estimate(value=class_mean(judged.predicted, judged.labels)),
        len(correct),
        interval.groups,
    )
    caption = (
        interval.note
        or "In brackets the 95 % interval over test groups; it does not hold the noise of training, which takes several seeds."
    )
    return Table(title="Judged clips", columns=("top1 (%)", "mean over classes (%)", "clips", "groups"), rows=(row,), caption=caption)


def _validation_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The last row of every split, and the best of those that have top1."""
    names = list(dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, float)))
    chosen: list[tuple[str, Mapping[str, Any]]] = []
    for split in dict.fromkeys(row["split"] for row in rows):
        of_split = [row for row in rows if row["split"] == split]
        with_top1 = [row for row in of_split if row.get("top1") is not None]
        best = max(with_top1, key=lambda row: float(row["top1"])) if with_top1 else of_split[-1]
        if best is not of_split[-1]:
            chosen.append((f"{split}, best", best))
        chosen.append((f"{split}, last", of_split[-1]))
    cells = tuple((which, row["step"], *(_estimate(name, row.get(name)) for name in names)) for which, row in chosen)
    return Table(title="During training", columns=("split", "step", *(f"{n} (%)" if is_share(n) else n for n in names)), rows=cells)


def _estimate(name: str, value: float | None) -> Estimate | None:
    return None if value is None else Estimate(value=value, percent=is_share(name))


def _class_table(judged: Judged) -> Table:
    rows: list[tuple[TableCell, ...]] = []
    for found in per_class(judged.predicted, judged.labels, judged.classes):
        recall, precision = (None if found[name] is None else Estimate(value=found[name]) for name in ("recall", "precision"))
        rows.append((found["class"], recall, precision, found["clips"]))
    rows.sort(key=lambda row: row[1].value if isinstance(row[1], Estimate) else 2.0)
    caption = "Hardest first. Recall: share of the class's clips that were named so. Precision: share of the clips named so that are."
    return Table(title="Classes", columns=("class", "recall (%)", "precision (%)", "clips"), rows=tuple(rows), caption=caption)


def _judged_figures(judged: Judged) -> list[Figure]:
    counts = confusion_matrix(judged.predicted, judged.labels, len(judged.classes))
    confidence = judged.probabilities.max(axis=1).clip(0, 1)
    return [confusion_figure(counts, judged.classes), reliability_diagram(confidence, judged.labels == judged.predicted)]


def _notes(rows: Sequence[Mapping[str, Any]], judged: Judged | None) -> dict[str, str]:
    train = [row for row in rows if row["split"] == "train"]
    notes = {"steps": str(rows[-1]["step"])} if rows else {}
    if train and "epoch" in train[-1]:
        notes["epochs"] = f"{train[-1]['epoch']:.4g}"
    if judged:
        notes["top-1"] = f"{(judged.labels == judged.predicted).mean() * 100:.1f} %"
    return notes
