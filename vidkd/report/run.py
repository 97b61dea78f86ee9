"""The report of a run: from the files in its folder."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError, require
from vidkd.base.files import read_json, read_jsonl, sha256
from vidkd.base.settings import read_yaml
from vidkd.bench.clip_summary import clip_scores
from vidkd.bench.intervals import Cell, Interval, bootstrap_ci
from vidkd.bench.summary import ACCURACY, AREA, mean_name
from vidkd.data.layouts.common import shortened
from vidkd.engine.config import solved_task
from vidkd.engine.evaluate import PREDICTION_COLUMNS, predicted_name
from vidkd.engine.metrics import class_mean, confusion_matrix, per_class, share_reaching
from vidkd.models.saved import checkpoint_in
from vidkd.report.figures import accuracy_by_condition, confusion_figure, reliability_diagram, training_curves
from vidkd.report.parts import Estimate, Figure, Report, Strip, Table, TableCell, is_share
from vidkd.report.strips import caption_of_time_rows

FILES = ("config.yaml", "environment.txt")
SHARE_WORDS = "share of the clip observed (%)"
_COMMAND = re.compile(r"#\s*(vidkd .*|python .*)")
_TEACHER_SEES = {"rest": "the rest of the clip", "same": "the same part", "whole": "the whole clip"}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The labelled rows of predictions.csv: (N,) labels and predictions in 0..K-1, probabilities (N, K), names of the groups."""

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    groups: tuple[str, ...]

    @property
    def correct(self) -> NDArray[np.float64]:
        """(N,) 1 for a clip that was named rightly, else 0."""
        return np.asarray(self.labels == self.predicted, np.float64)


JudgedAt = Mapping[float | None, Judged]
"""What was judged at each observed fraction, rising; {None: all} for whole clips; empty without predictions."""


def read_predictions(path: Path | str) -> dict[float | None, Judged]:
    """Read predictions.csv: of whole clips, or at every observed fraction where it has a column `observed`; see `JudgedAt`.

    Rows without a label are left out. Raises DataError if columns are missing, a number is none, or a label is not a class.
    """
    pandas: Any = require("pandas", "report")
    rows = pandas.read_csv(path, dtype=str, keep_default_na=False)
    classes = tuple(name[2:] for name in rows.columns if name.startswith("p_"))
    missing = [name for name in PREDICTION_COLUMNS if name not in rows.columns]
    if missing or not classes:
        raise DataError(f"not a table of predictions: {path}", missing=", ".join(missing) or "p_<class>")
    rows, numbers, found = rows[rows["label"] != ""], {name: number for number, name in enumerate(classes)}, {}
    try:
        fractions = rows["observed"].astype(float) if "observed" in rows.columns else np.zeros(len(rows))
        for fraction, of in rows.groupby(fractions):
            labels, predicted = (np.array([numbers[name] for name in of[column]], np.int64) for column in ("label", "predicted"))
            probabilities = of[[f"p_{name}" for name in classes]].to_numpy(np.float64)
            judged = Judged(classes=classes, labels=labels, predicted=predicted, probabilities=probabilities, groups=tuple(of["group"]))
            found[fraction or None] = judged
    except (KeyError, ValueError) as error:
        reason = f"{error} is none of the classes: {shortened(classes)}" if isinstance(error, KeyError) else error
        raise DataError(f"a row cannot be read in {path}", reason=reason, hint="vidkd evaluate writes it again") from error
    return found


def run_report(
    folder: Path | str, *, notes: Mapping[str, str] | None = None, strips: Sequence[Strip] = (), evaluated: bool = False
) -> Report:
    """What config.yaml, metrics.jsonl, predictions.csv and environment.txt of a run folder say; all but the first may be missing.

    evaluated: predictions.csv was just written. Otherwise it is left out unless evaluation.json says that it was made with
    the run's present checkpoint and not on training clips. Of one that was evaluated at several
    observed fractions there is a curve; everything else is of the fullest of them.

    notes: facts for the head of the page. Raises DataError if there is no config.yaml or a file is not as it should be.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").exists():
        raise DataError("not the folder of a run: config.yaml is missing", looked_in=folder)
    config_text, environment = ((folder / name).read_text(encoding="utf-8") if (folder / name).exists() else "" for name in FILES)
    rows, command = read_jsonl(folder / "metrics.jsonl"), _COMMAND.match(config_text)
    judged = read_predictions(folder / "predictions.csv") if evaluated or _is_current(folder) else {}
    return Report(
        title=folder.resolve().name,
        subtitle="One run: how it was trained and what it got right.",
        command=command[1].strip() if command else "",
        config_text=config_text,
        tables=tuple(_tables(rows, judged)),
        figures=(*training_curves(rows), *_judged_figures(judged)),
        strips=tuple(strips),
        strips_caption=caption_of_time_rows(strips),
        notes={**_notes(rows, judged), **observation_notes(read_yaml(folder / "config.yaml").content), **(notes or {})},
        environment=dict(line.split(": ", 1) for line in environment.splitlines()),
    )


def _is_current(folder: Path) -> bool:
    """Whether predictions.csv was made with the run's present checkpoint, on clips that it did not learn from."""
    evaluation, checkpoint = folder / "evaluation.json", checkpoint_in(folder)
    if not (evaluation.exists() and checkpoint.exists() and (folder / "predictions.csv").exists()):
        return False
    found = read_json(evaluation)
    return found.get("split") in ("val", "test") and found.get("checkpoint") == sha256(checkpoint)


def observation_notes(config: Mapping[str, Any]) -> dict[str, str]:
    """The protocol, what student and teacher see, and in how many frames, from the content of a run's config.yaml.

    Empty where both see the whole clip.
    """
    data = config.get("data") or {}
    observe, frames = data.get("observe") or {}, (data.get("window") or {}).get("frames")
    if observe.get("protocol") == "early":
        percents = ", ".join(f"{100 * fraction:g}" for fraction in observe["fractions"])
        protocol, student, teacher = f"early recognition at {percents} %", "the clip's first part", _TEACHER_SEES[observe["teacher_sees"]]
    elif observe.get("protocol") == "anticipation":
        seconds = observe.get("observe_s")
        student = "all that came before the gap" if seconds is None else f"{seconds:g} s before the gap"
        protocol, teacher = f"anticipation, {observe['gap_s']:g} s before the action", "the action"
    else:
        return {}
    notes = {"protocol": protocol, "student sees": f"{student}, {frames} frames"}
    if config.get("teacher") or config.get("teacher_settings"):
        own = solved_task(str(config.get("task"))) is not None
        notes["teacher sees"] = "what its own run says" if own else f"{teacher}, {observe.get('teacher_frames') or frames} frames"
    return notes


def _tables(rows: Sequence[Mapping[str, Any]], judged: JudgedAt) -> Iterator[Table]:
    if len(judged) > 1:
        yield _observed_table(judged)
    if judged:
        yield _judged_table(judged)
    if validations := [row for row in rows if row["split"] != "train"]:
        yield _validation_table(validations)
    if judged:
        yield _class_table(judged)


def _observed_scores(judged: JudgedAt, metric: str) -> Interval:
    """A metric of `clip_scores` over the clips of all fractions, with its 95 % interval over test groups."""
    first = next(iter(judged.values()))
    rows = {predicted_name(fraction): found.predicted for fraction, found in judged.items() if fraction is not None}
    return _interval(clip_scores({"label": first.labels, **rows}, metric), first.groups)


def _interval(scores: NDArray[np.float64], groups: Sequence[str]) -> Interval:
    return bootstrap_ci([Cell(seed=0, place="all", correct=scores, group=groups)], over=("groups",))


def _estimate(interval: Interval) -> Estimate:
    return Estimate(value=interval.mean, ci95=interval.ci95)


def _observed_table(judged: JudgedAt) -> Table:
    """Top-1 at every fraction, the mean over them and the area under their curve, each with its interval."""
    names = {f"{100 * fraction:g} %": mean_name([fraction]) for fraction in judged if fraction is not None}
    found = {shown: _observed_scores(judged, metric) for shown, metric in {**names, "mean": ACCURACY, "area": AREA}.items()}
    clips = len(next(iter(judged.values())).labels)
    rows: list[tuple[TableCell, ...]] = [(shown, _estimate(interval), clips) for shown, interval in found.items()]
    curve = {fraction: float(one.correct.mean()) for fraction, one in judged.items() if fraction is not None}
    reached = share_reaching(list(curve), list(curve.values()))
    caption = (
        "In brackets the 95 % interval over test groups. Mean: over the rows above. Area: under the curve by the trapezoid rule, divided "
        "by the range of the shares, so that the two ends count half. "
        f"The curve reaches 90 % of its last value at {100 * reached:.0f} % observed."
    )
    note = next(iter(found.values())).note
    return Table(title="Top-1 by observed share", columns=("observed", "top1 (%)", "clips"), rows=tuple(rows), caption=note or caption)


def _titled(title: str, judged: JudgedAt) -> str:
    """A title of what is shown of the largest observed part only, which it names."""
    fraction = list(judged)[-1]
    return title if fraction is None else f"{title}, {100 * fraction:g} % observed"


def _judged_table(judged: JudgedAt) -> Table:
    fullest = list(judged.values())[-1]
    interval = _interval(fullest.correct, fullest.groups)
    mean = Estimate(value=class_mean(fullest.predicted, fullest.labels))
    note = "In brackets the 95 % interval over test groups; it does not hold the noise of training, which takes several seeds."
    return Table(
        title=_titled("Judged clips", judged),
        columns=("top1 (%)", "mean over classes (%)", "clips", "groups"),
        rows=((_estimate(interval), mean, len(fullest.labels), interval.units),),
        caption=interval.note or note,
    )


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
    cells = tuple(
        (which, row["step"], *(Estimate(value=row[name], percent=is_share(name)) if name in row else None for name in names))
        for which, row in chosen.items()
    )
    return Table(title="During training", columns=("split", "step", *(f"{n} (%)" if is_share(n) else n for n in names)), rows=cells)


def _class_table(judged: JudgedAt) -> Table:
    fullest = list(judged.values())[-1]
    found = sorted(
        per_class(fullest.predicted, fullest.labels, fullest.classes), key=lambda row: 2.0 if row["recall"] is None else row["recall"]
    )
    shares = [[None if row[name] is None else Estimate(value=row[name]) for name in ("recall", "precision")] for row in found]
    return Table(
        title=_titled("Classes", judged),
        columns=("class", "recall (%)", "precision (%)", "clips"),
        rows=tuple((row["class"], *cells, row["clips"]) for row, cells in zip(found, shares, strict=True)),
        caption="Hardest first. Recall: share of the class's clips that were named so. Precision: share of the clips named so that are.",
    )


def _judged_figures(judged: JudgedAt) -> Iterator[Figure]:
    """Accuracy against the observed share, with its interval at every fraction; confusions and calibration."""
    if len(judged) > 1:
        points = {100 * at: _estimate(_observed_scores(judged, mean_name([at]))) for at in judged if at is not None}
        yield accuracy_by_condition({ACCURACY: points}, title="Accuracy by observed share", condition=SHARE_WORDS)
    for found in list(judged.values())[-1:]:
        confusions = confusion_figure(confusion_matrix(found.predicted, found.labels, len(found.classes)), found.classes)
        for figure in (confusions, reliability_diagram(found.probabilities.max(axis=1).clip(0, 1), found.correct)):
            yield dataclasses.replace(figure, title=_titled(figure.title, judged))


def _notes(rows: Sequence[Mapping[str, Any]], judged: JudgedAt) -> dict[str, str]:
    train = [row for row in rows if row["split"] == "train"]
    notes = {"steps": str(rows[-1]["step"])} if rows else {}
    if train and "epoch" in train[-1]:
        notes["epochs"] = f"{train[-1]['epoch']:.4g}"
    if judged:
        accuracy = np.mean([found.correct.mean() for found in judged.values()])
        notes["top-1, mean over observed shares" if len(judged) > 1 else "top-1"] = f"{100 * accuracy:.1f} %"
    return notes
