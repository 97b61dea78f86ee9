"""What is kept of accuracy, so that two runs on the same clips or frames can be compared in pairs.

measurements.json holds, of classifiers the rightness of every clip, of all models the metrics in each draw of groups, rounded to six
digits; summary.json itself a short form of the main metric. It needs no torch.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidkd.base.errors import DataError
from vidkd.base.files import read_json
from vidkd.bench.intervals import Cell, paired_difference
from vidkd.bench.speed.statistics import percentile_interval

if TYPE_CHECKING:
    from vidkd.bench.speed.accuracy import Accuracy

KIND = "vidkd-benchmark"
DIGITS = 6
TOP1 = "top1"
ONE_WINDOW = "one window and crop of each"
"""How classifiers are judged, as `judged_on` says it; runs from before that looked at several windows of a clip do not say it."""
NAME = "measurements"
SHORT, SHORT_DRAWS, SHORT_DIGITS = "accuracy", 200, 5
"""Of what a summary itself holds, key and size."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The 95 % interval over test groups of a metric's difference between two runs, paired; None where it cannot be known."""

    ci95: tuple[float, float] | None


def kept_accuracy(accuracy: "Accuracy") -> dict[str, Any]:
    """Of one model. correct: of the clips of `kept_samples`, in their order; None of a detector."""
    assert accuracy.drawn is not None
    return {
        "samples": accuracy.drawn.on.samples,
        "classes": list(accuracy.drawn.on.classes),
        "correct": None if accuracy.cell is None else np.round(accuracy.cell.correct, DIGITS).tolist(),
        "draws": {name: np.round(values, DIGITS).tolist() for name, values in accuracy.drawn.values.items()},
    }


def kept_samples(accuracies: "Iterable[Accuracy]") -> dict[str, dict[str, list[str]]]:
    """Names and groups of the clips that classifiers were judged on, once for all that were judged on the same, by the hash of these."""
    found = {}
    for accuracy in accuracies:
        if accuracy.cell is not None and accuracy.cell.clip is not None and accuracy.drawn is not None:
            found[accuracy.drawn.on.samples] = {"clip": accuracy.cell.clip.tolist(), "group": accuracy.cell.group.tolist()}
    return found


def short_accuracy(accuracy: "Accuracy") -> dict[str, Any]:
    """What a summary itself holds of the main metric of one model, a kilobyte or two, so that two summaries alone can be compared in pairs.

    Of classifiers top-1: `right`, how many clips of each group were right, `clips`, how many it has, groups in the order of their names. Of
    detectors `draws`: the metric in the first SHORT_DRAWS draws of groups.
    """
    drawn, cell = accuracy.drawn, accuracy.cell
    assert drawn is not None
    told = {"metric": drawn.metric, "samples": drawn.on.samples, "classes": _hash(list(drawn.on.classes))}
    if cell is None:
        return {**told, "draws": np.round(drawn.values.get(drawn.metric, np.zeros(0))[:SHORT_DRAWS], SHORT_DIGITS).tolist()}
    _, place = np.unique(cell.group, return_inverse=True)
    right = np.round(np.bincount(place, weights=np.asarray(cell.correct, np.float64)), SHORT_DIGITS).tolist()
    return {**told, "right": [int(each) if each == int(each) else each for each in right], "clips": np.bincount(place).tolist()}


def short_moved(first: Mapping[str, Any], second: Mapping[str, Any], model: str, metric: str) -> Moved | None:
    """As `moved_between`, by what the summaries themselves hold of the main metric. first, second: the `data` of both."""
    before, after = (side.get("models", {}).get(model, {}).get(SHORT) for side in (first, second))
    if before is None or after is None or {before["metric"], after["metric"]} != {metric}:
        return None
    _check_same_samples(before, after, model)
    if "draws" in before and "draws" in after:
        one, other = before["draws"], after["draws"]
        return Moved(ci95=percentile_interval(np.subtract(other, one)) if len(one) == len(other) else None)
    clips = np.asarray(before["clips"])
    groups = np.repeat([f"{number:06d}" for number in range(len(clips))], clips)  # whose order is that of the groups' own names
    cells = [
        Cell(seed=0, fold="all", correct=np.repeat(np.divide(side["right"], clips), clips), group=groups, clip=np.arange(len(groups)))
        for side in (after, before)
    ]
    return Moved(ci95=paired_difference(cells[:1], cells[1:], over=("groups",)).ci95)


def _check_same_samples(before: Mapping[str, Any], after: Mapping[str, Any], model: str) -> None:
    if any(before[name] != after[name] for name in ("samples", "classes")):
        raise DataError(f"'{model}' was judged on other clips, frames or classes in the two benchmarks", to_mend="judge both on the same")


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def identity_of(measurements: Mapping[str, Any]) -> str:
    """A hash of all measurements, by which a summary knows its own."""
    return _hash(measurements)


def measurements_beside(summary: Path | str) -> Path:
    """Where the measurements of a summary lie: measurements.json beside summary.json, repeat_measurements.json beside repeat.json."""
    path = Path(summary)
    return path.with_name(f"{NAME}.json" if path.stem == "summary" else f"{path.stem}_{NAME}.json")


def read_measurements(path: Path | str, summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The measurements beside a summary; None where none lie there, or the run is from before accuracies were kept in them.

    path: of the summary. Raises DataError for a file that holds none, and for those of another run.
    """
    file = measurements_beside(path)
    told = summary["data"].get(NAME) if isinstance(summary["data"], Mapping) else None
    if told is None or not file.exists():
        return None
    content = read_json(file)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise DataError(f"not the measurements of a benchmark: {file}", to_mend="copy them anew, or take the file away")
    if identity_of(content) != told:
        raise DataError(
            f"the measurements of another run: {file}", summary=path, to_mend="copy both files of one run, or take this one away"
        )
    return content


def moved_between(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None, model: str, metric: str) -> Moved | None:
    """How far a model's accuracy in the second run lies from that in the first; None where a run keeps nothing of it.

    first, second: measurements. The interval is that of top-1 over clips, and of other metrics over draws; it cannot be known with one
    group. Raises DataError for runs that judged the model on other clips, frames or classes.
    """
    before, after = (None if side is None else side["models"].get(model, {}).get("accuracy") for side in (first, second))
    if first is None or before is None or after is None:
        return None
    _check_same_samples(before, after, model)
    if metric == TOP1 and before["correct"] is not None and after["correct"] is not None:
        clips = first["samples"][before["samples"]]
        cells = [Cell(seed=0, fold="all", correct=side["correct"], group=clips["group"], clip=clips["clip"]) for side in (after, before)]
        return Moved(ci95=paired_difference(cells[:1], cells[1:], over=("groups",)).ci95)
    one, other = (side["draws"].get(metric, ()) for side in (before, after))
    return Moved(ci95=percentile_interval(np.subtract(other, one)) if len(one) == len(other) else None)
