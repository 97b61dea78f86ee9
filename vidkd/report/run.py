"""The report of a run: from the files in its folder."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidkd.base.errors import DataError
from vidkd.base.files import read_json, read_jsonl, sha256
from vidkd.base.settings import read_yaml
from vidkd.bench.intervals import Cell, bootstrap_ci
from vidkd.engine.metrics import class_mean, confusion_matrix, per_class
from vidkd.models.saved import checkpoint_in
from vidkd.report.figures import confusion_figure, reliability_diagram, training_curves
from vidkd.report.moments import caption_of_time_rows
from vidkd.report.observed import observation_notes, observed_curve, observed_table, share
from vidkd.report.parts import Estimate, Figure, Report, Strip, Table, TableCell, is_share
from vidkd.report.predictions import Judged, read_predictions

_COMMAND = re.compile(r"#\s*(vidkd .*|python .*)")


def run_report(
    folder: Path | str,
    *,
    command: str = "",
    notes: Mapping[str, str] | None = None,
    strips: Sequence[Strip] = (),
    seed: int = 0,
    just_evaluated: bool = False,
) -> Report:
    """What config.yaml, metrics.jsonl, predictions.csv and environment.txt of a run folder say; all but the first may be missing.

    just_evaluated: predictions.csv is what the page is about. Otherwise it is left out unless evaluation.json says that it was made with
    the run's present checkpoint and not on training clips; one without a label is left out, too. Of one that was evaluated at several
    observed fractions there is a curve; everything else is of the fullest of them.

    command: by default the command in the comment that config.yaml begins with. notes: facts for the head of the page.
    Raises DataError if there is no config.yaml or a file is not as it should be.
    """
    folder = Path(folder)
    config_text = _text(folder / "config.yaml")
    if config_text is None:
        raise DataError("not the folder of a run: config.yaml is missing", looked_in=folder)
    rows = read_jsonl(folder / "metrics.jsonl")
    judged = _judged(folder, just_evaluated)
    written = _COMMAND.match(config_text)
    return Report(
        title=folder.resolve().name,
        subtitle="One run: how it was trained and what it got right.",
        command=command or (written[1].strip() if written else ""),
        config_text=config_text,
        tables=tuple(_tables(rows, judged, seed)),
        figures=tuple(training_curves(rows) + _judged_figures(judged)),
        strips=tuple(strips),
        strips_caption=caption_of_time_rows(strips),
        notes={**_notes(rows, judged), **observation_notes(read_yaml(folder / "config.yaml").content), **(notes or {})},
        environment=_environment(_text(folder / "environment.txt") or ""),
    )


def _judged(folder: Path, just_evaluated: bool) -> dict[float | None, Judged]:
    """predictions.csv, if evaluation.json was made with the run's present checkpoint, and on clips that it did not learn from."""
    table, path, checkpoint = folder / "predictions.csv", folder / "evaluation.json", checkpoint_in(folder)
    found = read_json(path) if path.exists() else {}
    is_current = found.get("split") in ("val", "test") and checkpoint.exists() and found.get("checkpoint") == sha256(checkpoint)
    return read_predictions(table) if table.exists() and (just_evaluated or is_current) else {}


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _environment(text: str) -> Mapping[str, str] | str:
    """A mapping where every line is "name: value", otherwise the text unchanged."""
    lines = [line.partition(": ") for line in text.splitlines() if line.strip()]
    return {name: value for name, _, value in lines} if all(colon for _, colon, _ in lines) else text


def _tables(rows: Sequence[Mapping[str, Any]], judged: Mapping[float | None, Judged], seed: int) -> Iterable[Table]:
    if len(judged) > 1:
        yield observed_table(judged)
    if judged:
        yield _judged_table(*_fullest(judged), seed)
    if validations := [row for row in rows if row["split"] != "train"]:
        yield _validation_table(validations)
    if judged:
        yield _class_table(*_fullest(judged))


def _fullest(judged: Mapping[float | None, Judged]) -> tuple[Judged, str]:
    """What was judged of the largest observed part, and that part in words."""
    fraction, found = list(judged.items())[-1]
    return found, share(fraction)


def _titled(title: str, observed: str) -> str:
    return f"{title}, {observed}" if observed else title


def _judged_table(judged: Judged, observed: str, seed: int) -> Table:
    cell = Cell(seed=0, place="all", correct=judged.correct, group=judged.groups)
    interval = bootstrap_ci([cell], over=("groups",), seed=seed)
    row: tuple[TableCell, ...] = (
        Estimate(value=interval.mean, ci95=interval.ci95),
        Estimate(value=class_mean(judged.predicted, judged.labels)),
        len(judged.correct),
        interval.units,
    )
    caption = (
        interval.note
        or "In brackets the 95 % interval over test groups; it does not hold the noise of training, which takes several seeds."
    )
    columns = ("top1 (%)", "mean over classes (%)", "clips", "groups")
    return Table(title=_titled("Judged clips", observed), columns=columns, rows=(row,), caption=caption)


def _validation_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The last row of every split, and the best of those that have top1."""
    names = list(dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, float)))
    chosen: dict[str, Mapping[str, Any]] = {}
    for split in dict.fromkeys(row["split"] for row in rows):
        of_split = [row for row in rows if row["split"] == split]
        best = max(of_split, key=lambda row: float(row.get("top1") or 0))
        if best.get("top1") and best is not of_split[-1]:
            chosen[f"{split}, best"] = best
        chosen[f"{split}, last"] = of_split[-1]

    def cell(name: str, value: float | None) -> Estimate | None:
        return None if value is None else Estimate(value=value, percent=is_share(name))

    cells = tuple((which, row["step"], *(cell(name, row.get(name)) for name in names)) for which, row in chosen.items())
    return Table(title="During training", columns=("split", "step", *(f"{n} (%)" if is_share(n) else n for n in names)), rows=cells)


def _class_table(judged: Judged, observed: str) -> Table:
    rows = []
    for found in per_class(judged.predicted, judged.labels, judged.classes):
        recall, precision = (None if found[name] is None else Estimate(value=found[name]) for name in ("recall", "precision"))
        rows.append((found["class"], recall, precision, found["clips"]))
    rows.sort(key=lambda row: 2.0 if row[1] is None else row[1].value)
    caption = "Hardest first. Recall: share of the class's clips that were named so. Precision: share of the clips named so that are."
    columns = ("class", "recall (%)", "precision (%)", "clips")
    return Table(title=_titled("Classes", observed), columns=columns, rows=tuple(rows), caption=caption)


def _judged_figures(judged: Mapping[float | None, Judged]) -> list[Figure]:
    if not judged:
        return []
    found, observed = _fullest(judged)
    counts = confusion_matrix(found.predicted, found.labels, len(found.classes))
    confidence = found.probabilities.max(axis=1).clip(0, 1)
    drawn = [confusion_figure(counts, found.classes), reliability_diagram(confidence, found.correct)]
    curve = [observed_curve(judged)] if len(judged) > 1 else []
    return curve + [dataclasses.replace(figure, title=_titled(figure.title, observed)) for figure in drawn]


def _notes(rows: Sequence[Mapping[str, Any]], judged: Mapping[float | None, Judged]) -> dict[str, str]:
    train = [row for row in rows if row["split"] == "train"]
    notes = {"steps": str(rows[-1]["step"])} if rows else {}
    if train and "epoch" in train[-1]:
        notes["epochs"] = f"{train[-1]['epoch']:.4g}"
    accuracies = [found.correct.mean() * 100 for found in judged.values()]
    if judged:
        notes["top-1, mean over observed shares" if len(judged) > 1 else "top-1"] = f"{sum(accuracies) / len(accuracies):.1f} %"
    return notes
