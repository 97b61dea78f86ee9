"""From finished cells to summary.json and a table: means, intervals, paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidkd.bench.cells import Chosen, Places, cells_to_test, read_cell
from vidkd.bench.intervals import Cell
from vidkd.bench.study import Study
from vidkd.bench.summary import Method, Metric, Paired, build_summary

PER_CLIP = ("pointing", "mass")
"""Measures that a cell holds clip by clip, beside correctness."""


def read_cells(study: Study, places: Places, chosen: Chosen) -> dict[str, list[dict[str, Any]]]:
    """Finished test cells by method, in the study's order; methods without any are left out."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in study.spec.methods}
    for wave in cells_to_test(study):
        for key in wave:
            content = read_cell(study, "test", key, places, chosen)
            if content is not None:
                found[key.method].append(content)
    return {name: cells for name, cells in found.items() if cells}


def as_cell(content: Mapping[str, Any], metric: str = "top1") -> Cell:
    """A cell's scores clip by clip: correctness for top1, or a per-clip measure of this name."""
    rows = content["predictions"]
    scores = np.equal(rows["predicted"], rows["label"]) if metric == "top1" else rows[metric]
    return Cell(seed=content["seed"], fold=content["fold"], correct=scores, group=rows["group"], clip=rows["clip"])


def summarise(study: Study, found: Mapping[str, list[dict[str, Any]]], claim: str | None) -> dict[str, Any]:
    """summary.json of a study: every metric of every method, and paired differences with the reference and with the claim's method."""
    methods = {name: _method(cells) for name, cells in found.items()}
    paired = [pair for name in found for pair in _pairs(name, study.spec.reference, found)]
    if claim is not None and claim in found:
        paired += [pair for name in found if name != study.spec.reference for pair in _pairs(claim, name, found)]
    first = next(iter(found.values()))[0]
    data = {
        "name": study.base.stem,
        "subset": first["subset"],
        "folds": list(study.spec.folds),
        "seeds": list(study.spec.seeds),
        "claim": claim,
        "reference": study.spec.reference,
        "labels": {name: method.label or name for name, method in study.spec.methods.items()},
    }
    seconds = sum(cell["train_seconds"] for cells in found.values() for cell in cells)
    return build_summary(study.spec.study, data, first["environment"], methods, paired, round(seconds, 1))


def _method(cells: Sequence[Mapping[str, Any]]) -> Method:
    metrics = {"top1": Metric.of_cells([as_cell(cell) for cell in cells])}
    for name in cells[0]["metrics"]:
        if name in PER_CLIP and name in cells[0]["predictions"]:
            metrics[name] = Metric.of_cells([as_cell(cell, name) for cell in cells])
        elif name != "top1":
            metrics[name] = Metric(values={f"{cell['seed']}/{cell['fold']}": cell["metrics"][name] for cell in cells})
    seconds = float(np.mean([cell["train_seconds"] for cell in cells]))
    return Method(metrics=metrics, train_seconds=round(seconds, 1), parameters=cells[0]["parameters"])


def _pairs(name: str, other: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Paired]:
    """Differences of two methods in top1, and in the per-clip measures that both have; none where they share no cell."""
    if name == other or other not in found:
        return []
    metrics = ["top1", *(metric for metric in PER_CLIP if metric in found[name][0]["metrics"] and metric in found[other][0]["metrics"])]
    here = {(cell["seed"], cell["fold"]) for cell in found[name]}
    if not any((cell["seed"], cell["fold"]) in here for cell in found[other]):
        return []
    return [
        Paired.of_cells(
            name, [as_cell(cell, metric) for cell in found[name]], other, [as_cell(cell, metric) for cell in found[other]], metric=metric
        )
        for metric in metrics
    ]


def table(summary: Mapping[str, Any]) -> str:
    """The summary as aligned text: top-1 with interval, difference to the reference with interval, cells, training time."""
    reference, labels = summary["data"]["reference"], summary["data"]["labels"]
    against = {pair["method"]: pair for pair in summary["paired"] if pair["against"] == reference and pair["metric"] == "top1"}
    rows = [("method", "top-1", "95 %", f"- {labels.get(reference, reference)}", "95 %", "cells", "train s")]
    for name, method in summary["methods"].items():
        top1, pair = method["metrics"]["top1"], against.get(name)
        difference = (f"{100 * pair['difference']:+.1f}", interval(pair["ci95"], signed=True)) if pair else ("", "")
        label = labels.get(name, name) + (" *" if name == summary["data"]["claim"] else "")
        rows.append(
            (label, f"{100 * top1['mean']:.1f}", interval(top1["ci95"]), *difference, str(top1["n"]), f"{method['train_seconds']:.0f}")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows) + "\n"


def interval(bounds: Sequence[float] | None, *, signed: bool = False) -> str:
    """An interval in percent: [71.2, 78.0]; a dash where it cannot be known."""
    if bounds is None:
        return "-"
    low, high = (f"{100 * bound:{'+' if signed else ''}.1f}" for bound in bounds)
    return f"[{low}, {high}]"
