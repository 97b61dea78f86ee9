"""From finished cells to summary.json: means, intervals, paired differences."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.bench.cells import KeptCells, Places, cells_to_test
from vidkd.bench.intervals import Cell
from vidkd.bench.observed import ACCURACY, at_name, clip_scores, is_accuracy, mean_name, observed_metric, percents_of, under
from vidkd.bench.shared_clips import left_out, on_shared_clips
from vidkd.bench.study import Chosen, Study
from vidkd.bench.summary import CONDITION_PARAMETERS, CONDITION_SECONDS, Method, Metric, Paired, build_summary
from vidkd.engine.evaluate import remarks_on
from vidkd.engine.metrics import ALL, confusion_matrix

PER_CLIP = ("pointing", "mass")
"""Measures that a cell holds clip by clip, beside correctness."""

NOT_IN_ALL = re.compile(rf"pointing|mass|chance|top5|.*_{ALL}|.+_(top1|top5|class_mean|ece|nll)")
"""Metrics that some cells of a method may lack; it is shown without them then.

Older cells of five classes or fewer hold top5, newer ones do not. Recalls in which unobservable clips are misses are there where such are.
Cells from before further labels were judged by more than their recall lack the rest (`verb_top1`); those from before the study had
`measures` lack these.
"""


def read_cells(study: Study, places: Places, chosen: Chosen) -> dict[str, list[dict[str, Any]]]:
    """Finished test cells by method, in the study's order; methods without any are left out."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in study.spec.methods}
    kept = KeptCells(study, "test", places, chosen)
    for wave in cells_to_test(study, list(study.spec.methods)):
        for key in wave:
            content = kept.read(key)
            if content is not None:
                found[key.method].append(content)
    return {name: cells for name, cells in found.items() if cells}


def as_cell(content: Mapping[str, Any], metric: str = ACCURACY) -> Cell:
    """A cell's scores clip by clip: for an accuracy those of `clip_scores` (of the labelled clips), else a per-clip measure (of all)."""
    rows = content["predictions"]
    if is_accuracy(metric):
        scores, judged = clip_scores(rows, metric), np.array(rows["label"]) >= 0
    else:
        scores, judged = np.array(rows[metric]), np.ones(len(rows["label"]), bool)
    group, clip = np.array(rows["group"])[judged], np.array(rows["clip"])[judged]
    return Cell(seed=content["seed"], fold=content["fold"], correct=scores[judged], group=group, clip=clip)


def confusion(cells: Sequence[Mapping[str, Any]], classes: int) -> NDArray[np.int64]:
    """(classes, classes) counts over all cells of a method, row = true class; of what saw most where it was judged at several shares."""
    counts = np.zeros((classes, classes), np.int64)
    for cell in cells:
        labels, predicted = (np.array(cell["predictions"][name]) for name in ("label", "predicted"))
        counts += confusion_matrix(predicted[labels >= 0], labels[labels >= 0], classes)
    return counts


def summarise(study: Study, found: Mapping[str, list[dict[str, Any]]], claim: str | None) -> dict[str, Any]:
    """summary.json of a study: every metric of every method, and paired differences with the reference and with the claim's method.

    Entries that are shown under one name give one method, whose metrics carry the entries' conditions (`top1@labels25`).
    Raises DataError if the cells were made with different manifests.
    """
    spec = study.spec
    methods: dict[str, list[str]] = {}
    for name in found:
        methods.setdefault(spec.shown_name(name), []).append(name)
    claimed = spec.shown_name(claim) if claim in spec.methods else None
    compared = _comparisons(study, found, claimed)
    paired = [pair for names in compared for pair in _pairs(*names, found, study)]
    first = next(iter(found.values()))[0]
    data = {
        "name": study.base.stem,
        "manifest": _manifest(found),
        "subset": first["subset"],
        "folds": list(spec.folds),
        "seeds": list(spec.seeds),
        "claim": claimed,
        "reference": spec.reference,
        "labels": {spec.shown_name(name): method.label or spec.shown_name(name) for name, method in spec.methods.items()},
    }
    if remarks := [*study_remarks(study, found), *_left_out_remarks(study, compared, found)]:
        data["remarks"] = remarks
    seconds = sum(cell["train_seconds"] for cells in found.values() for cell in cells)
    built = {shown: _method({name: found[name] for name in names}, study) for shown, names in methods.items()}
    return build_summary(spec.study, data, first["environment"], built, paired, round(seconds, 1))


def study_remarks(study: Study, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What is to be known of the judged clips (`Judgement.remarks`), over the folds together; all seeds judge the same clips.

    Where methods observe different parts, each line names those that it is of. Cells from before these counts were kept say nothing; a line
    that stands on some of the folds says on how many.
    """
    said: dict[str, list[str]] = {}
    for name, cells in found.items():
        by_fold = {cell["fold"]: cell["counts"] for cell in cells if "counts" in cell}
        judged = len({cell["fold"] for cell in cells})
        partly = f" (known of {len(by_fold)} of {judged} folds)" if len(by_fold) < judged else ""
        totals: dict[str, int] = {}
        for counts in by_fold.values():
            totals |= {count: totals.get(count, 0) + number for count, number in counts.items()}
        for line in remarks_on(totals) if totals else []:
            said.setdefault(line + partly, []).append(_entry_label(study, name))
    return [line if len(names) == len(found) else f"{', '.join(dict.fromkeys(names))}: {line}" for line, names in said.items()]


def _entry_label(study: Study, name: str) -> str:
    method = study.spec.methods[name]
    return (method.label or study.spec.shown_name(name)) + (f" @ {method.condition}" if method.condition else "")


def _manifest(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """Name and hash of the manifest that all cells were made with."""
    every = {(cell["manifest"]["name"], cell["manifest"]["sha256"]) for cells in found.values() for cell in cells}
    if len(every) > 1:
        raise DataError("cells of one study were made with different data", manifests="; ".join(map(" ".join, sorted(every))))
    ((name, sha256),) = every
    return {"name": name, "sha256": sha256}


def _counterpart(study: Study, name: str, shown: str) -> str | None:
    """The entry shown as `shown` that is judged under the same condition as `name`."""
    condition = study.spec.methods[name].condition
    for other, method in study.spec.methods.items():
        if study.spec.shown_name(other) == shown and method.condition == condition:
            return other
    return None


def _method(entries: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> Method:
    metrics: dict[str, Metric] = {}
    for name, cells in entries.items():
        condition = study.spec.methods[name].condition
        for metric in _metrics_of(cells[0], study):
            if NOT_IN_ALL.fullmatch(metric) and any(metric not in cell["metrics"] for cell in cells):
                continue
            shown = under(metric, condition)
            if is_accuracy(metric) or metric in cells[0]["predictions"]:
                metrics[shown] = Metric.of_cells([as_cell(cell, metric) for cell in cells])
            else:
                metrics[shown] = _by_cell(cells, [cell["metrics"][metric] for cell in cells])
        if condition:
            metrics[under(CONDITION_SECONDS, condition)] = _by_cell(cells, [cell["train_seconds"] for cell in cells])
            metrics[under(CONDITION_PARAMETERS, condition)] = _by_cell(cells, [cell["parameters"] for cell in cells])
    every = [cell for cells in entries.values() for cell in cells]
    seconds = float(np.mean([cell["train_seconds"] for cell in every]))
    return Method(metrics=metrics, train_seconds=round(seconds, 1), parameters=_parameters(list(entries.values())))


def _by_cell(cells: Sequence[Mapping[str, Any]], values: Sequence[float]) -> Metric:
    return Metric(values={f"{cell['seed']}/{cell['fold']}": value for cell, value in zip(cells, values, strict=True)})


def _parameters(entries: Sequence[Sequence[Mapping[str, Any]]]) -> int | None:
    """The mean over the cells of a method, as seeds may prune unlike layers; None where it is not the same under all conditions."""
    counts = {round(float(np.mean([cell["parameters"] for cell in cells]))) for cells in entries}
    return counts.pop() if len(counts) == 1 else None


def _metrics_of(cell: Mapping[str, Any], study: Study) -> list[str]:
    """The metrics of a cell, and the mean over the observed fractions that the study names.

    Raises DataError where the cell was not judged at just these between the first and the last.
    """
    shown = [float(f"{100 * fraction:g}") for fraction in study.spec.fractions_shown]
    judged = percents_of(cell["predictions"])
    if not shown or not judged:
        return list(cell["metrics"])
    if [percent for percent in judged if shown[0] <= percent <= shown[-1]] != shown:
        raise DataError(
            "fractions_shown are not the fractions that cells were judged at between the first and the last of them",
            study=study.path,
            cell=f"{cell['method']}, judged at {', '.join(f'{percent / 100:g}' for percent in judged)}",
        )
    return list(dict.fromkeys([*cell["metrics"], mean_name(study.spec.fractions_shown)]))


def _comparisons(study: Study, found: Mapping[str, Sequence[Mapping[str, Any]]], claimed: str | None) -> list[tuple[str, str]]:
    """Entries that are compared, those that share a cell: each with the reference, and the claim's method with each of the others."""
    spec = study.spec
    pairs: list[tuple[str | None, str | None]] = [(name, _counterpart(study, name, spec.reference)) for name in found]
    if claimed is not None:
        others = [name for name in found if spec.shown_name(name) not in (spec.reference, claimed)]
        pairs += [(_counterpart(study, name, claimed), name) for name in others]
    cells = {name: {(cell["seed"], cell["fold"]) for cell in of_name} for name, of_name in found.items()}
    there = [(name, other) for name, other in pairs if name in cells and other in cells and name != other]
    return [(name, other) for name, other in there if cells[name] & cells[other]]


def _left_out_remarks(study: Study, compared: Sequence[tuple[str, str]], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    for name, other in compared:
        alone, whole = left_out(found[name], found[other])
        if alone:
            named = f"{_entry_label(study, name)} minus {_entry_label(study, other)}"
            yield f"{named}: on the clips that both were judged on; {alone} of {whole} are left out"


def _pairs(name: str, other: str, found: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> list[Paired]:
    """Differences of two entries in what `_compared` names, on the clips that both were judged on. Raises DataError without any."""
    cells, others = on_shared_clips(found[name], found[other])
    if not cells:
        raise DataError(
            "no clip was judged by both sides of a comparison",
            study=study.path,
            methods=f"{name}, {other}",
            hint="a reference that observes clips which the others observe too (data.observe)",
        )
    condition = study.spec.methods[name].condition
    return [
        Paired.of_cells(
            study.spec.shown_name(name),
            [as_cell(cell, metric) for cell in cells],
            study.spec.shown_name(other),
            [as_cell(cell, metric) for cell in others],
            metric=under(metric, condition),
        )
        for metric in _compared(found[name], found[other], study)
    ]


def _compared(cells: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], study: Study) -> list[str]:
    """Metrics in which two entries are compared: top1, the per-clip measures that all their cells have, and top1 at observed fractions.

    Those are the fractions that the study shows, and the mean over them; all that both have where it names none.
    """
    both = [metric for metric in PER_CLIP if all(metric in cell["predictions"] for cell in (*cells, *others))]
    here, there = (_metrics_of(side[0], study) for side in (cells, others))
    observed = [metric for metric in here if observed_metric(metric) and metric in there]
    if fractions := study.spec.fractions_shown:
        wanted = dict.fromkeys([mean_name(fractions), *map(at_name, fractions)])
        observed = [metric for metric in wanted if metric in observed]
    return [ACCURACY, *both, *observed]
