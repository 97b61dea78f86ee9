"""From finished cells to summary.json and a table: means, intervals, paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidkd.base.errors import DataError
from vidkd.bench.cells import KeptCells, Places, cells_to_test
from vidkd.bench.intervals import Cell
from vidkd.bench.study import Chosen, Study
from vidkd.bench.summary import Method, Metric, Paired, build_summary

PER_CLIP = ("pointing", "mass")
"""Measures that a cell holds clip by clip, beside correctness."""


def read_cells(study: Study, places: Places, chosen: Chosen) -> dict[str, list[dict[str, Any]]]:
    """Finished test cells by method, in the study's order; methods without any are left out."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in study.spec.methods}
    kept = KeptCells(study, "test", places, chosen)
    for wave in cells_to_test(study):
        for key in wave:
            content = kept.read(key)
            if content is not None:
                found[key.method].append(content)
    return {name: cells for name, cells in found.items() if cells}


def as_cell(content: Mapping[str, Any], metric: str = "top1") -> Cell:
    """A cell's scores clip by clip: correctness for top1 (of the labelled clips), or a per-clip measure of this name (of all).

    `top1@obs20` is correctness at that observed fraction; where a cell was judged at several, `top1` is the mean over them.
    """
    rows = content["predictions"]
    labels = np.array(rows["label"])
    base, _, condition = metric.partition("@")
    if base == "top1":
        every = [name for name in rows if name.startswith("predicted@")] or ["predicted"]
        names = [f"predicted@{condition}"] if condition else every
        scores, judged = np.mean([np.equal(rows[name], labels) for name in names], axis=0), labels >= 0
    else:
        scores, judged = np.array(rows[metric]), np.ones(len(labels), bool)
    group, clip = np.array(rows["group"])[judged], np.array(rows["clip"])[judged]
    return Cell(seed=content["seed"], fold=content["fold"], correct=scores[judged], group=group, clip=clip)


def summarise(study: Study, found: Mapping[str, list[dict[str, Any]]], claim: str | None) -> dict[str, Any]:
    """summary.json of a study: every metric of every method, and paired differences with the reference and with the claim's method.

    Entries that are shown under one name give one method, whose metrics carry the entries' conditions (`top1@labels25`).
    Raises DataError if the cells were made with different manifests.
    """
    spec = study.spec
    methods: dict[str, list[str]] = {}
    for name in found:
        methods.setdefault(spec.shown_name(name), []).append(name)
    paired = [pair for name in found for pair in _pairs(name, _counterpart(study, name, spec.reference), found, study)]
    claimed = spec.shown_name(claim) if claim in spec.methods else None
    if claimed is not None:
        others = [name for name in found if spec.shown_name(name) not in (spec.reference, claimed)]
        paired += [pair for name in others for pair in _pairs(_counterpart(study, name, claimed), name, found, study)]
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
    seconds = sum(cell["train_seconds"] for cells in found.values() for cell in cells)
    built = {shown: _method({name: found[name] for name in names}, study) for shown, names in methods.items()}
    return build_summary(spec.study, data, first["environment"], built, paired, round(seconds, 1))


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
        for metric in cells[0]["metrics"]:
            shown = _under(metric, condition)
            if metric.partition("@")[0] == "top1" or metric in cells[0]["predictions"]:
                metrics[shown] = Metric.of_cells([as_cell(cell, metric) for cell in cells])
            else:
                metrics[shown] = Metric(values={f"{cell['seed']}/{cell['fold']}": cell["metrics"][metric] for cell in cells})
    every = [cell for cells in entries.values() for cell in cells]
    seconds = float(np.mean([cell["train_seconds"] for cell in every]))
    return Method(metrics=metrics, train_seconds=round(seconds, 1), parameters=every[0]["parameters"])


def _pairs(name: str | None, other: str | None, found: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> list[Paired]:
    """Differences of two entries in top1, and in the per-clip measures that both have; none where they share no cell."""
    if name is None or other is None or name == other or name not in found or other not in found:
        return []
    here = {(cell["seed"], cell["fold"]) for cell in found[name]}
    if not any((cell["seed"], cell["fold"]) in here for cell in found[other]):
        return []
    here_and_there = (found[name][0], found[other][0])
    both = [metric for metric in PER_CLIP if all(metric in cell["predictions"] for cell in here_and_there)]
    both += [metric for metric in found[name][0]["metrics"] if metric.startswith("top1@") and metric in found[other][0]["metrics"]]
    condition = study.spec.methods[name].condition
    return [
        Paired.of_cells(
            study.spec.shown_name(name),
            [as_cell(cell, metric) for cell in found[name]],
            study.spec.shown_name(other),
            [as_cell(cell, metric) for cell in found[other]],
            metric=_under(metric, condition),
        )
        for metric in ("top1", *both)
    ]


def _under(metric: str, condition: str | None) -> str:
    """A metric's name with the condition of its entry: top1@labels25, top1@obs20.labels25."""
    return f"{metric}{'.' if '@' in metric else '@'}{condition}" if condition else metric


def rows_of(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the study's table, the heading first: method, top-1 with interval, difference to the reference with interval, cells, seconds.

    A method judged under several conditions has a row for each; * marks the method of the claim.
    """
    reference, labels = summary["data"]["reference"], summary["data"]["labels"]
    against = {(pair["method"], pair["metric"]): pair for pair in summary["paired"] if pair["against"] == reference}
    rows: list[tuple[str, ...]] = [("method", "top-1", "95 %", f"- {labels.get(reference, reference)}", "95 %", "cells", "train s")]
    for name, method in summary["methods"].items():
        for metric, found in method["metrics"].items():
            base, _, condition = metric.partition("@")
            if base != "top1":
                continue
            pair = against.get((name, metric))
            difference = (f"{100 * pair['difference']:+.1f}", interval(pair["ci95"], signed=True)) if pair else ("", "")
            label = labels.get(name, name) + (f" @ {condition}" if condition else "") + (" *" if name == summary["data"]["claim"] else "")
            numbers = (f"{100 * found['mean']:.1f}", interval(found["ci95"]))
            rows.append((label, *numbers, *difference, str(found["n"]), f"{method['train_seconds']:.0f}"))
    return rows


def table(summary: Mapping[str, Any]) -> str:
    """The study's table as aligned text."""
    rows = rows_of(summary)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows) + "\n"


def interval(bounds: Sequence[float] | None, *, signed: bool = False) -> str:
    """An interval in percent: [71.2, 78.0]; a dash where it cannot be known."""
    if bounds is None:
        return "-"
    low, high = (f"{100 * bound:{'+' if signed else ''}.1f}" for bound in bounds)
    return f"[{low}, {high}]"
