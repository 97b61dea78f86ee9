"""From the finished cells of a study of streams to summary.json: F1 with block-bootstrap intervals, paired differences, and the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidkd.base.errors import DataError
from vidkd.bench.intervals import Measured, name_of
from vidkd.bench.streams.figures import IOUS, Annotated, OnAnnotated, StreamCounts
from vidkd.bench.streams.spec import AFTER, WHOLE
from vidkd.bench.streams.study import StreamStudy
from vidkd.bench.study import CellKey
from vidkd.bench.summary import Method, Metric, Paired, build_summary

PARTS = ("student", "selector", "update")
"""Parts of a step whose time is reported; what the oracle takes was measured when it saw the whole stream."""
F1, RECALL = "f1", "recall"
DRAWS = {F1: 10_000, **dict.fromkeys((*IOUS, RECALL), 1_000)}
"""Of a bootstrap; one of average precision is long."""

StreamCells = Mapping[tuple[str, float], Sequence[dict[str, Any]]]
"""Finished cells by method and share of calls, one for every seed and stream."""
StreamFigures = Mapping[tuple[str, float], Mapping[str, Sequence[Measured]]]
"""The same cells' figures, by method and share, and by metric with its range (f1, f1_late)."""
_What = tuple[str, str, float, str]
"""Reference ("" without one), method, share, metric."""


def by_method_and_share(study: StreamStudy, cells: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """Finished test cells; a method that does not depend on the seed has its one cell under every seed. Those without any are left out."""
    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    spec = study.spec
    for name, method in spec.methods.items():
        for share in spec.shares_of(name):
            for seed in spec.seeds:
                for stream in spec.test_streams:
                    content = cells.get(str(CellKey(name, -1, seed if method.depends_on_seed else spec.seeds[0], stream, share)))
                    if content is not None:
                        found.setdefault((name, share), []).append({**content, "seed": seed})
    return found


def summarise_streams(study: StreamStudy, cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """summary.json of a study. Raises DataError where methods spent different numbers of calls at one share.

    A method of which no share of calls is asked is under every share of the study, so that the others can be compared with it.
    """
    spec, found = study.spec, by_method_and_share(study, cells)
    _check_calls(study, found)
    by_share = {(name, shown): own for (name, share), own in found.items() for shown in ([share] if share else spec.calls)}
    figures = {what: _figures(own) for what, own in by_share.items()}
    found_in = _judged(study, figures)
    methods = {name: _method(study, name, by_share, found_in) for name, _ in by_share}
    first = next(iter(found.values()))[0]
    data = {
        "name": ", ".join(spec.test_streams),
        "frames": {cell["place"]: cell["frames"] for own in found.values() for cell in own},
        "seeds": list(spec.seeds),
        "block": spec.block,
        "shorter_blocks": _shorter_blocks(figures, spec.block),
        "reference": list(spec.reference),
        "labels": {name: spec.methods[name].label or name for name in methods},
    }
    paired = [pair for pair in found_in.values() if isinstance(pair, Paired)]
    runs = {cell["cell"]: cell["seconds"]["whole"] for own in found.values() for cell in own}
    return build_summary(spec.study, data, first["environment"], methods, paired, round(sum(runs.values()), 1))


def _check_calls(study: StreamStudy, found: StreamCells) -> None:
    """Raise DataError where methods of one share did not call the oracle equally often along a stream: they cannot be compared."""
    spent: dict[tuple[float, str], dict[int, list[str]]] = {}
    for (name, share), cells in found.items():
        for cell in cells if share else ():
            counts = spent.setdefault((share, f"{cell['seed']}/{cell['place']}"), {})
            counts.setdefault(len(cell["called"]), []).append(name)
    for (share, where), counts in spent.items():
        if len(counts) > 1:
            calls = "; ".join(f"{count} by {', '.join(names)}" for count, names in counts.items())
            raise DataError(
                f"methods spent different numbers of calls in {where} at {100 * share:g} %: {calls}",
                study=study.path,
                hint="give the study another name, and all cells are run again",
            )


def _figures(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[Measured]]:
    """Of the whole stream and of every range, of the cells whose stream has it; those that are known of no cell are left out."""
    found: dict[str, list[Measured]] = {}
    for place in dict.fromkeys(name for cell in cells for name in cell["ranges"]):
        for cell in (cell for cell in cells if place in cell["ranges"]):
            bounds = cell["ranges"][place]
            for metric, one in {F1: StreamCounts.of(cell).between(*bounds), **_on_annotated(cell, bounds)}.items():
                found.setdefault(metric if place == WHOLE else f"{metric}_{place}", []).append(one)
    return found


def _on_annotated(cell: Mapping[str, Any], bounds: Sequence[int]) -> dict[str, Measured]:
    """Average precision where every object in the range has its box, else recall; neither where nothing is to be found."""
    part = Annotated.of_columns(cell["annotated"]).between(*bounds) if cell.get("annotated") else None
    if part is None or not len(part.places):
        return {}
    metrics = IOUS if part.complete.all() else (RECALL,)
    found = {metric: OnAnnotated(seed=cell["seed"], place=cell["place"], judged=part, metric=metric) for metric in metrics}
    return {metric: one for metric, one in found.items() if not np.isnan(one.value)}


def _shorter_blocks(figures: StreamFigures, block: int) -> dict[str, list[int]]:
    """Metrics, with their ranges, whose intervals are of blocks of fewer counted frames than the study's, and how many these are."""
    lengths: dict[str, set[int]] = {}
    for metrics in figures.values():
        for metric, cells in metrics.items():
            lengths.setdefault(metric, set()).update(one.units(block).block or 0 for one in cells)
    return {metric: sorted(blocks) for metric, blocks in lengths.items() if min(blocks) < block}


def _after(cells: Sequence[Mapping[str, Any]], learned: Sequence[Mapping[str, Any]]) -> list[StreamCounts]:
    """Of each of the cells, counts of the frames after the last kept update of the learned one with its seed and stream."""
    last = {
        (cell["seed"], cell["place"]): cell["kept"][-1] + 1 for cell in learned if cell["kept"] and cell["kept"][-1] + 1 < cell["frames"]
    }
    found = [(cell, last.get((cell["seed"], cell["place"]))) for cell in cells]
    return [StreamCounts.of(cell).between(first, cell["frames"]) for cell, first in found if first is not None]


def _method(study: StreamStudy, name: str, by_share: StreamCells, judged: Mapping[_What, Metric | Paired]) -> Method:
    metrics: dict[str, Metric] = {}
    own = {share: cells for (other, share), cells in by_share.items() if other == name}
    for share, cells in own.items():
        found = {what[-1]: one for what, one in judged.items() if what[:3] == ("", name, share) and isinstance(one, Metric)}
        # each cell has a stretch of its own there, so blocks cannot be shared and no interval is given
        after = {f"{F1}_{AFTER}": cells}
        after |= {f"{F1}_{AFTER}_of_{other}": by_share.get((other, share), []) for other in study.spec.reference if other != name}
        for metric, whose in after.items():
            if counts := _after(whose, cells):
                found[metric] = Metric(values={name_of(one): one.value for one in counts})
        numbers = [_numbers(cell) for cell in cells]
        for metric in numbers[0]:
            if all(metric in each for each in numbers):
                values = {f"{cell['seed']}/{cell['place']}": each[metric] for cell, each in zip(cells, numbers, strict=True)}
                found[metric] = Metric(values=values)
        metrics |= {f"{metric}@calls{100 * share:g}": one for metric, one in found.items()}
    every = [cell for cells in own.values() for cell in cells]
    seconds = float(np.mean([cell["seconds"]["whole"] for cell in every]))
    return Method(metrics=metrics, train_seconds=round(seconds, 1), parameters=every[0]["parameters"])


def _numbers(cell: Mapping[str, Any]) -> dict[str, float]:
    """What a cell holds as one number: calls, frames after the last update, milliseconds a frame of the parts."""
    frames, seconds = float(cell["frames"]), cell["seconds"]
    return {
        "oracle_calls": float(len(cell["called"])),
        "updates": float(len(cell["kept"])),
        "frames_after": frames - 1 - cell["kept"][-1] if cell["kept"] else frames,
        "oracle_ms": 1e3 * float(cell["oracle_frame_s"]),
        **{f"{part}_ms": 1e3 * float(seconds[part]) / frames for part in ("stream", *PARTS) if part in seconds},
    }


def _judged(study: StreamStudy, figures: StreamFigures) -> dict[_What, Metric | Paired]:
    """Every figure with its interval, and every method minus each reference at the same share in every figure."""
    wanted: list[_What] = [("", *what, metric) for what, metrics in figures.items() for metric in metrics]
    for reference in study.spec.reference:
        for (name, share), metrics in figures.items():
            others = figures.get((reference, share), {}) if name != reference else {}
            for metric, mine in metrics.items():
                if {name_of(one) for one in mine} & {name_of(one) for one in others.get(metric, ())}:
                    wanted.append((reference, name, share, metric))
    found: dict[_What, Metric | Paired] = {}
    for what in sorted(wanted, key=lambda what: what[-1]):  # figures of one metric are asked on the same draws, which are large
        reference, name, share, metric = what
        how = {"draws": DRAWS[metric.partition("_")[0]], "block": study.spec.block}
        mine, shown = figures[name, share][metric], f"{metric}@calls{100 * share:g}"
        if reference:
            found[what] = Paired.of_cells(name, mine, reference, figures[reference, share][metric], metric=shown, **how)
        else:
            found[what] = Metric.of_cells(mine, **how)
    return {what: found[what] for what in wanted}
