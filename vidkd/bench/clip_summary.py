"""From the finished cells of a study of classifiers to summary.json: means, intervals, paired differences."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.bench.intervals import Cell
from vidkd.bench.summary import (
    ACCURACY,
    AREA,
    CONDITION_PARAMETERS,
    CONDITION_SECONDS,
    Method,
    Metric,
    Paired,
    build_summary,
    mean_name,
    parsed,
    under,
)
from vidkd.engine.evaluate import remarks_on
from vidkd.engine.metrics import area_weights, confusion_matrix

if TYPE_CHECKING:
    from vidkd.bench.clip_study import ClipStudy

Content: TypeAlias = Mapping[str, Any]
"""What a cell holds."""
Found: TypeAlias = Mapping[str, Sequence[Content]]
"""Finished cells by method."""
PER_CLIP = ("pointing", "mass")
"""Measures that a cell holds clip by clip, besides correctness."""
_PREDICTED = "predicted@obs"
SELECTED = "selected"
"""The method that takes, in each fold, the cells of the candidate that this fold's validation groups chose, where folds differ in it."""


def as_cell(content: Content, metric: str = ACCURACY) -> Cell:
    """A cell's scores clip by clip: for an accuracy those of `clip_scores` (of the labelled clips), else a per-clip measure (of all)."""
    rows = content["predictions"]
    judged = np.array(rows["label"]) >= 0 if is_accuracy(metric) else np.ones(len(rows["label"]), bool)
    scores = clip_scores(rows, metric) if is_accuracy(metric) else np.array(rows[metric])
    group, clip = np.array(rows["group"])[judged], np.array(rows["clip"])[judged]
    return Cell(seed=content["seed"], place=content["place"], correct=scores[judged], group=group, clip=clip)


def confusion(cells: Sequence[Content], classes: int) -> NDArray[np.int64]:
    """(classes, classes) counts over all cells of a method, row = true class; of what saw most where it was judged at several shares."""
    counts = np.zeros((classes, classes), np.int64)
    for cell in cells:
        labels, predicted = (np.array(cell["predictions"][name]) for name in ("label", "predicted"))
        counts += confusion_matrix(predicted[labels >= 0], labels[labels >= 0], classes)
    return counts


def by_method(study: "ClipStudy", cells: Mapping[str, Content]) -> dict[str, list[Content]]:
    """Finished test cells by method, in the study's order; methods without any are left out."""
    keys = [key for wave in study.test_waves(list(study.spec.methods)) for key in wave]
    found = {name: [cells[str(key)] for key in keys if key.method == name and str(key) in cells] for name in study.spec.methods}
    return {name: of_method for name, of_method in found.items() if of_method}


def _with_selected(study: "ClipStudy", found: dict[str, list[Content]], claims: Mapping[str, str]) -> "tuple[ClipStudy, str | None]":
    """The study with the entry that makes the claim: where folds chose different candidates one more, SELECTED, whose cells go to `found`.

    A mean over the folds would let the validation groups of one fold, which another tests, choose what that other one is judged by.
    """
    names = [name for name in dict.fromkeys(claims.values()) if name in found]
    if len(names) < 2:
        return study, names[0] if names else None
    found[SELECTED] = [cell for fold, name in claims.items() for cell in found.get(name, []) if cell["place"] == fold]
    label = "selected on the validation groups of each fold"
    methods = {**study.spec.methods, SELECTED: dataclasses.replace(study.spec.methods[names[0]], label=label, shown_as=None)}
    return dataclasses.replace(study, spec=dataclasses.replace(study.spec, methods=methods)), SELECTED


def summarise(study: "ClipStudy", cells: Mapping[str, Content], claims: Mapping[str, str]) -> dict[str, Any]:
    """summary.json of a study: every metric of every method, and paired differences with the reference and with the claim's method.

    Entries that are shown under one name give one method, whose metrics carry the entries' conditions (`top1@labels25`).
    claims: by fold. Raises DataError for no cell, or cells that were made with different manifests.
    """
    found = by_method(study, cells)
    study, claim = _with_selected(study, found, claims)
    spec = study.spec
    methods: dict[str, list[str]] = {}
    for name in found:
        methods.setdefault(spec.shown_name(name), []).append(name)
    claimed = None if claim is None else spec.shown_name(claim)
    compared = list(_compared(study, found, claimed))
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
    if remarks := [*_remarks(study, found), *_left_out(study, compared, found)]:
        data["remarks"] = remarks
    seconds = sum(cell["train_seconds"] for name, of_name in found.items() if name != SELECTED for cell in of_name)
    built = {shown: _method({name: found[name] for name in names}, study) for shown, names in methods.items()}
    paired = [pair for names in compared for pair in _pairs(*names, found, study)]
    return build_summary(spec.study, data, first["environment"], built, paired, round(seconds, 1))


def _manifest(found: Found) -> dict[str, str]:
    """Name and hash of the manifest that all cells were made with."""
    every = {cell["inputs"]["manifest"] for cells in found.values() for cell in cells}
    if len(every) > 1:
        raise DataError("cells of one study were made with different data", manifests="; ".join(sorted(every)))
    name, _, sha256 = every.pop().rpartition(" ")
    return {"name": name, "sha256": sha256}


def _remarks(study: "ClipStudy", found: Found) -> list[str]:
    """What is to be known of the judged clips (`Judgement.remarks`), over the folds together; all seeds judge the same clips.

    Where methods observe different parts, each line names those that it is of. Cells from before these counts were kept say nothing; a line
    that is known of some of the folds says of how many.
    """
    said: dict[str, list[str]] = {}
    for name, cells in found.items():
        by_fold = {cell["place"]: cell["judged"] for cell in cells if "judged" in cell}
        folds = len({cell["place"] for cell in cells})
        partly = f" (known of {len(by_fold)} of {folds} folds)" if len(by_fold) < folds else ""
        totals = {count: sum(counts.get(count, 0) for counts in by_fold.values()) for counts in by_fold.values() for count in counts}
        for line in remarks_on(totals) if totals else []:
            said.setdefault(line + partly, []).append(_entry_label(study, name))
    return [line if len(names) == len(found) else f"{', '.join(dict.fromkeys(names))}: {line}" for line, names in said.items()]


def _entry_label(study: "ClipStudy", name: str) -> str:
    method = study.spec.methods[name]
    return (method.label or study.spec.shown_name(name)) + (f" @ {method.condition}" if method.condition else "")


def _method(entries: Found, study: "ClipStudy") -> Method:
    metrics: dict[str, Metric] = {}
    for name, cells in entries.items():
        condition = study.spec.methods[name].condition
        for metric in _metrics_of(cells[0], study):
            if is_accuracy(metric) or metric in cells[0]["predictions"]:
                if is_accuracy(metric) or all(metric in cell["predictions"] for cell in cells):
                    metrics[under(metric, condition)] = Metric.of_cells([as_cell(cell, metric) for cell in cells])
            elif all(metric in cell["metrics"] for cell in cells):  # older cells lack some, which newer ones have
                metrics[under(metric, condition)] = _by_cell(cells, [cell["metrics"][metric] for cell in cells])
        if condition:
            metrics[under(CONDITION_SECONDS, condition)] = _by_cell(cells, [cell["train_seconds"] for cell in cells])
            metrics[under(CONDITION_PARAMETERS, condition)] = _by_cell(cells, [cell["parameters"] for cell in cells])
    seconds = float(np.mean([cell["train_seconds"] for cells in entries.values() for cell in cells]))
    # the mean over the cells of a method, as seeds may prune different layers; None where conditions differ in it
    parameters = {round(float(np.mean([cell["parameters"] for cell in cells]))) for cells in entries.values()}
    return Method(metrics=metrics, train_seconds=round(seconds, 1), parameters=parameters.pop() if len(parameters) == 1 else None)


def _by_cell(cells: Sequence[Content], values: Sequence[float]) -> Metric:
    return Metric(values={f"{cell['seed']}/{cell['place']}": value for cell, value in zip(cells, values, strict=True)})


def _metrics_of(cell: Content, study: "ClipStudy") -> list[str]:
    """The metrics of a cell, and the mean over the observed fractions that the study names."""
    shown = study.spec.fractions_shown
    return list(dict.fromkeys([*cell["metrics"], *([mean_name(shown)] if shown and percents_of(cell["predictions"]) else [])]))


def _compared(study: "ClipStudy", found: Found, claimed: str | None) -> Iterator[tuple[str, str]]:
    """Entries that are compared, those that share a cell: each with the reference, and the claim's method with each of the others."""
    spec = study.spec
    entries = {(spec.shown_name(name), spec.methods[name].condition): name for name in reversed(spec.methods)}
    pairs = [(name, entries.get((spec.reference, spec.methods[name].condition), "")) for name in found]
    others = [name for name in found if claimed is not None and spec.shown_name(name) not in (spec.reference, claimed)]
    pairs += [(entries.get((str(claimed), spec.methods[name].condition), ""), name) for name in others]
    for name, other in pairs:
        if name in found and other in found and name != other and next(_same_cells(found[name], found[other]), None):
            yield name, other


def _pairs(name: str, other: str, found: Found, study: "ClipStudy") -> list[Paired]:
    """Differences of two entries on the clips that both were judged on, and in what both are judged by. Raises DataError without a clip.

    That is top1, the per-clip measures that all their cells have, and top1 at the observed fractions that the study shows and in the mean
    over them; at all that both have where it names none.
    """
    sides = [_with_rows(*each) for each in _same_cells(found[name], found[other])]
    sides = [side for side in sides if side[0]["predictions"]["clip"]]
    if not sides:
        raise DataError(
            "no clip was judged by both sides of a comparison",
            study=study.path,
            methods=f"{name}, {other}",
            hint="a reference that observes clips which the others observe too (data.observe)",
        )
    per_clip = [metric for metric in PER_CLIP if all(metric in cell["predictions"] for side in sides for cell in side)]
    here, there = (_metrics_of(of_name[0], study) for of_name in (found[name], found[other]))
    observed = [metric for metric in here if parsed(metric).word == "obs" and metric in there]
    if shown := study.spec.fractions_shown:
        observed = [metric for metric in dict.fromkeys([mean_name(shown), *(mean_name([one]) for one in shown)]) if metric in observed]
    shown_as, condition = study.spec.shown_name, study.spec.methods[name].condition
    pairs = []
    for metric in (ACCURACY, *per_clip, *observed):
        mine, theirs = ([as_cell(cell, metric) for cell in side] for side in zip(*sides, strict=True))
        pairs.append(Paired.of_cells(shown_as(name), mine, shown_as(other), theirs, metric=under(metric, condition)))
    return pairs


def _left_out(study: "ClipStudy", compared: Sequence[tuple[str, str]], found: Found) -> Iterator[str]:
    """What is to be known of comparisons of methods that were not judged on the same clips; seeds judge the same ones."""
    for name, other in compared:
        by_fold = {}
        for cell, others in _same_cells(found[name], found[other]):
            lengths = [len(each["predictions"]["clip"]) for each in (cell, others)]
            shared = len(shared_rows(cell["predictions"], others["predictions"])[0])
            by_fold[cell["place"]] = np.array([sum(lengths) - 2 * shared, sum(lengths) - shared])
        alone, whole = np.sum(list(by_fold.values()), axis=0).tolist()
        if alone:
            named = f"{_entry_label(study, name)} minus {_entry_label(study, other)}"
            yield f"{named}: on the clips that both were judged on; {alone} of {whole} are left out"


def _same_cells(cells: Sequence[Content], others: Sequence[Content]) -> Iterator[tuple[Content, Content]]:
    there = {(other["seed"], other["place"]): other for other in others}
    return ((cell, there[cell["seed"], cell["place"]]) for cell in cells if (cell["seed"], cell["place"]) in there)


def _with_rows(cell: Content, other: Content) -> tuple[Content, Content]:
    """Two cells with the predictions of the clips that both were judged on."""
    rows = shared_rows(cell["predictions"], other["predictions"])
    mine, theirs = (
        {**each, "predictions": {name: [column[row] for row in kept] for name, column in each["predictions"].items()}}
        for each, kept in zip((cell, other), rows, strict=True)
    )
    return mine, theirs


def shared_rows(rows: Content, others: Content) -> tuple[list[int], list[int]]:
    """Places, on both sides, of the clips that both have, in the order of the manifest, which both keep.

    Clips of one file differ in their start, in cells that keep it, and in their label; where that leaves several, they are shared if both
    sides have as many, for else it is not known which.
    """
    columns = ["clip", "group", "label", *(["start_s"] if "start_s" in rows and "start_s" in others else [])]
    here, there = (list(zip(*(side[name] for name in columns), strict=True)) for side in (rows, others))
    counts, other_counts = Counter(here), Counter(there)
    mine, theirs = ([place for place, name in enumerate(side) if counts[name] == other_counts[name]] for side in (here, there))
    return mine, theirs


def is_accuracy(metric: str) -> bool:
    """Whether a metric is worked out clip by clip from the predictions."""
    return metric.partition("@")[0] in (ACCURACY, AREA)


def percents_of(rows: Mapping[str, Any]) -> list[float]:
    """The observed shares, in percent and rising, at which a cell's predictions were made; none for one prediction a clip."""
    return sorted(float(name.removeprefix(_PREDICTED)) for name in rows if name.startswith(_PREDICTED))


def clip_scores(rows: Mapping[str, Any], metric: str) -> NDArray[np.float64]:
    """(N,) what each clip contributes to `top1`, `top1_area`, `top1@obs20` or `top1@obs20-50`; their mean over clips is the metric.

    rows: predictions of a cell. Where they were made at several observed shares, `top1` is the mean over all of them, a range the mean over
    those in it, and the area weighs each as the trapezoid rule does. Raises DataError if there is none at a share that is named.
    """
    percents, labels, name = percents_of(rows), np.asarray(rows["label"]), parsed(metric)
    if not percents and not name.word:
        return np.asarray(np.equal(rows["predicted"], labels), np.float64)
    if name.word and not {name.low, name.high} <= set(percents):
        judged = ", ".join(f"{percent:g} %" for percent in percents)
        raise DataError(f"cells have no predictions for '{metric}'", observed=judged or "whole clips")
    weights = np.array([not name.word or name.low <= percent <= name.high for percent in percents], np.float64)
    weights = area_weights(percents) if metric == AREA else weights / weights.sum()
    right = np.array([np.equal(rows[f"{_PREDICTED}{percent:g}"], labels) for percent in percents], np.float64)
    return np.asarray(weights @ right)
