"""What measurements.json keeps of accuracy, so that two runs on the same clips or frames can be compared in pairs.

Of classifiers the rightness of every clip, of all models the metrics in each draw of groups, rounded to six digits. It needs no torch.
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


def identity_of(measurements: Mapping[str, Any]) -> str:
    """A hash of all measurements, by which a summary knows its own."""
    return hashlib.sha256(json.dumps(measurements, sort_keys=True).encode()).hexdigest()[:16]


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
    if any(before[name] != after[name] for name in ("samples", "classes")):
        raise DataError(f"'{model}' was judged on other clips, frames or classes in the two benchmarks", to_mend="judge both on the same")
    if metric == TOP1 and before["correct"] is not None and after["correct"] is not None:
        clips = first["samples"][before["samples"]]
        cells = [Cell(seed=0, fold="all", correct=side["correct"], group=clips["group"], clip=clips["clip"]) for side in (after, before)]
        return Moved(ci95=paired_difference(cells[:1], cells[1:], over=("groups",)).ci95)
    one, other = (side["draws"].get(metric, ()) for side in (before, after))
    return Moved(ci95=percentile_interval(np.subtract(other, one)) if len(one) == len(other) else None)
