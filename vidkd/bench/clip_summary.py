"""From the finished cells of a study of classifiers to summary.json: means, intervals, paired differences."""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.bench.intervals import Cell
from vidkd.bench.observed import ACCURACY, at_name, clip_scores, is_accuracy, mean_name, observed_metric, percents_of, under
from vidkd.bench.summary import CONDITION_PARAMETERS, CONDITION_SECONDS, Method, Metric, Paired, build_summary
from vidkd.engine.evaluate import remarks_on
from vidkd.engine.metrics import ALL, confusion_matrix

if TYPE_CHECKING:
    from vidkd.bench.clip_study import ClipStudy

Content: TypeAlias = Mapping[str, Any]
"""What a cell holds."""
PER_CLIP = ("pointing", "mass")
"""Measures that a cell holds clip by clip, beside correctness."""

NOT_IN_ALL = re.compile(rf"pointing|mass|chance|top5|.*_{ALL}|.+_(top1|top5|class_mean|ece|nll)")
"""Metrics that some cells of a method may lack; it is shown without them then.

Older cells of five classes or fewer hold top5, newer ones do not. Recalls in which unobservable clips are misses are there where such are.
Cells from before further labels were judged by more than their recall lack the rest (`verb_top1`); those from before the study had
`measures` lack these.
"""


def as_cell(content: Content, metric: str = ACCURACY) -> Cell:
    """A cell's scores clip by clip: for an accuracy those of `clip_scores` (of the labelled clips), else a per-clip measure (of all)."""
    rows = content["predictions"]
    if is_accuracy(metric):
        scores, judged = clip_scores(rows, metric), np.array(rows["label"]) >= 0
    else:
        scores, judged = np.array(rows[metric]), np.ones(len(rows["label"]), bool)
    group, clip = np.array(rows["group"])[judged], np.array(rows["clip"])[judged]
    return Cell(seed=content["seed"], fold=content["place"], correct=scores[judged], group=group, clip=clip)


def confusion(cells: Sequence[Content], classes: int) -> NDArray[np.int64]:
    """(classes, classes) counts over all cells of a method, row = true class; of what saw most where it was judged at several shares."""
    counts = np.zeros((classes, classes), np.int64)
    for cell in cells:
        labels, predicted = (np.array(cell["predictions"][name]) for name in ("label", "predicted"))
        counts += confusion_matrix(predicted[labels >= 0], labels[labels >= 0], classes)
    return counts


SELECTED = "selected"
"""The method that takes, in each fold, the cells of the candidate that this fold's validation groups chose, where folds differ in it."""


def by_method(study: "ClipStudy", cells: Mapping[str, Content]) -> dict[str, list[Content]]:
    """Finished test cells by method, in the study's order; methods without any are left out."""
    keys = [key for wave in study.test_waves(list(study.spec.methods)) for key in wave]
    found = {name: [cells[str(key)] for key in keys if key.method == name and str(key) in cells] for name in study.spec.methods}
    return {name: of_method for name, of_method in found.items() if of_method}


def _with_selected(
    study: "ClipStudy", found: Mapping[str, list[Content]], claims: Mapping[str, str]
) -> "tuple[ClipStudy, dict[str, list[Content]], str | None]":
    """The entry that makes the claim. Where folds chose unlike candidates it is one more, SELECTED, made of a candidate's cells per fold:

    a mean over the folds would let the validation groups of one fold, which another tests, choose what that other one is judged by.
    """
    names = [name for name in dict.fromkeys(claims.values()) if name in found]
    if len(names) < 2:
        return study, dict(found), names[0] if names else None
    cells = [cell for fold, name in claims.items() for cell in found.get(name, []) if cell["place"] == fold]
    label = "selected on the validation groups of each fold"
    methods = {**study.spec.methods, SELECTED: dataclasses.replace(study.spec.methods[names[0]], label=label, shown_as=None)}
    return dataclasses.replace(study, spec=dataclasses.replace(study.spec, methods=methods)), {**found, SELECTED: cells}, SELECTED


def summarise(study: "ClipStudy", cells: Mapping[str, Content], claims: Mapping[str, str]) -> dict[str, Any]:
    """summary.json of a study: every metric of every method, and paired differences with the reference and with the claim's method.

    Entries that are shown under one name give one method, whose metrics carry the entries' conditions (`top1@labels25`).
    claims: by fold. Raises DataError for no cell, or cells that were made with different manifests.
    """
    study, found, claim = _with_selected(study, by_method(study, cells), claims)
    if not found:
        raise DataError("no finished cell", study=study.path, hint=f"vidkd study {study.path}")
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
    seconds = sum(cell["train_seconds"] for name, of_name in found.items() if name != SELECTED for cell in of_name)
    built = {shown: _method({name: found[name] for name in names}, study) for shown, names in methods.items()}
    return build_summary(spec.study, data, first["environment"], built, paired, round(seconds, 1))


def study_remarks(study: "ClipStudy", found: Mapping[str, Sequence[Content]]) -> list[str]:
    """What is to be known of the judged clips (`Judgement.remarks`), over the folds together; all seeds judge the same clips.

    Where methods observe different parts, each line names those that it is of. Cells from before these counts were kept say nothing; a line
    that stands on some of the folds says on how many.
    """
    said: dict[str, list[str]] = {}
    for name, cells in found.items():
        by_fold = {cell["place"]: cell["judged"] for cell in cells if "judged" in cell}
        judged = len({cell["place"] for cell in cells})
        partly = f" (known of {len(by_fold)} of {judged} folds)" if len(by_fold) < judged else ""
        totals: dict[str, int] = {}
        for counts in by_fold.values():
            totals |= {count: totals.get(count, 0) + number for count, number in counts.items()}
        for line in remarks_on(totals) if totals else []:
            said.setdefault(line + partly, []).append(_entry_label(study, name))
    return [line if len(names) == len(found) else f"{', '.join(dict.fromkeys(names))}: {line}" for line, names in said.items()]


def _entry_label(study: "ClipStudy", name: str) -> str:
    method = study.spec.methods[name]
    return (method.label or study.spec.shown_name(name)) + (f" @ {method.condition}" if method.condition else "")


def _manifest(found: Mapping[str, Sequence[Content]]) -> dict[str, str]:
    """Name and hash of the manifest that all cells were made with."""
    every = {cell["inputs"]["manifest"] for cells in found.values() for cell in cells}
    if len(every) > 1:
        raise DataError("cells of one study were made with different data", manifests="; ".join(sorted(every)))
    name, _, sha256 = every.pop().rpartition(" ")
    return {"name": name, "sha256": sha256}


def _counterpart(study: "ClipStudy", name: str, shown: str) -> str | None:
    """The entry shown as `shown` that is judged under the same condition as `name`."""
    condition = study.spec.methods[name].condition
    for other, method in study.spec.methods.items():
        if study.spec.shown_name(other) == shown and method.condition == condition:
            return other
    return None


def _method(entries: Mapping[str, Sequence[Content]], study: "ClipStudy") -> Method:
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


def _by_cell(cells: Sequence[Content], values: Sequence[float]) -> Metric:
    return Metric(values={f"{cell['seed']}/{cell['place']}": value for cell, value in zip(cells, values, strict=True)})


def _parameters(entries: Sequence[Sequence[Content]]) -> int | None:
    """The mean over the cells of a method, as seeds may prune unlike layers; None where it is not the same under all conditions."""
    counts = {round(float(np.mean([cell["parameters"] for cell in cells]))) for cells in entries}
    return counts.pop() if len(counts) == 1 else None


def _metrics_of(cell: Content, study: "ClipStudy") -> list[str]:
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


def _comparisons(study: "ClipStudy", found: Mapping[str, Sequence[Content]], claimed: str | None) -> list[tuple[str, str]]:
    """Entries that are compared, those that share a cell: each with the reference, and the claim's method with each of the others."""
    spec = study.spec
    pairs: list[tuple[str | None, str | None]] = [(name, _counterpart(study, name, spec.reference)) for name in found]
    if claimed is not None:
        others = [name for name in found if spec.shown_name(name) not in (spec.reference, claimed)]
        pairs += [(_counterpart(study, name, claimed), name) for name in others]
    cells = {name: {(cell["seed"], cell["place"]) for cell in of_name} for name, of_name in found.items()}
    there = [(name, other) for name, other in pairs if name in cells and other in cells and name != other]
    return [(name, other) for name, other in there if cells[name] & cells[other]]


def _left_out_remarks(study: "ClipStudy", compared: Sequence[tuple[str, str]], found: Mapping[str, Sequence[Content]]) -> Iterator[str]:
    for name, other in compared:
        alone, whole = left_out(found[name], found[other])
        if alone:
            named = f"{_entry_label(study, name)} minus {_entry_label(study, other)}"
            yield f"{named}: on the clips that both were judged on; {alone} of {whole} are left out"


def _pairs(name: str, other: str, found: Mapping[str, Sequence[Content]], study: "ClipStudy") -> list[Paired]:
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


def _compared(cells: Sequence[Content], others: Sequence[Content], study: "ClipStudy") -> list[str]:
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


def on_shared_clips(cells: Sequence[Content], others: Sequence[Content]) -> tuple[list[Content], list[Content]]:
    """The cells of which both sides have one of the same seed and fold, with the predictions of the clips that both were judged on.

    Cells that share no clip are left out; those that were judged on the same clips are as they were.
    """
    first, second = [], []
    for cell, other in _same_cells(cells, others):
        rows, other_rows = shared_rows(cell["predictions"], other["predictions"])
        if rows:
            first.append(_with_rows(cell, rows))
            second.append(_with_rows(other, other_rows))
    return first, second


def left_out(cells: Sequence[Content], others: Sequence[Content]) -> tuple[int, int]:
    """How many clips one side alone was judged on, and how many there are in all, over the folds together; seeds judge the same clips."""
    by_fold = {}
    for cell, other in _same_cells(cells, others):
        shared = len(shared_rows(cell["predictions"], other["predictions"])[0])
        whole = len(cell["predictions"]["clip"]) + len(other["predictions"]["clip"]) - shared
        by_fold[cell["place"]] = (whole - shared, whole)
    return sum(alone for alone, _ in by_fold.values()), sum(whole for _, whole in by_fold.values())


def shared_rows(rows: Content, others: Content) -> tuple[list[int], list[int]]:
    """Places, on both sides, of the clips that both have.

    Both keep the order of the manifest. Clips of one file are told apart by their start, in cells that keep it, and by their label; where
    that leaves several, they are shared if both sides have as many, for else nobody knows which.
    """
    here, there = (_names(side, "start_s" in rows and "start_s" in others) for side in (rows, others))
    if here == there:
        return list(range(len(here))), list(range(len(there)))
    counts, other_counts = Counter(here), Counter(there)
    places = defaultdict(list)
    for place, name in enumerate(there):
        places[name].append(place)
    kept = [place for place, name in enumerate(here) if counts[name] == other_counts[name]]
    return kept, [places[here[place]].pop(0) for place in kept]


def _names(rows: Content, by_start: bool) -> list[tuple[Any, ...]]:
    columns = [rows[name] for name in ("clip", "group", "label", *(["start_s"] if by_start else []))]
    return list(zip(*columns, strict=True))


def _same_cells(cells: Sequence[Content], others: Sequence[Content]) -> Iterator[tuple[Content, Content]]:
    against = {(other["seed"], other["place"]): other for other in others}
    return ((cell, against[cell["seed"], cell["place"]]) for cell in cells if (cell["seed"], cell["place"]) in against)


def _with_rows(cell: Content, rows: Sequence[int]) -> Content:
    if len(rows) == len(cell["predictions"]["clip"]):
        return cell
    return {**cell, "predictions": {name: [column[row] for row in rows] for name, column in cell["predictions"].items()}}
