"""From the finished cells of a study of streams to summary.json: F1 with block-bootstrap intervals, paired differences, and the rest."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vidkd.base.errors import DataError
from vidkd.bench.streams.annotated import Annotated, StreamPrecision, StreamRecall
from vidkd.bench.streams.bootstrap import Measured, StreamCounts, block_of, name_of, stream_difference, stream_interval
from vidkd.bench.streams.spec import AFTER, WHOLE
from vidkd.bench.streams.study import StreamStudy, depends_on_seed, shares_of
from vidkd.bench.study import CellKey
from vidkd.bench.summary import Method, Metric, Paired, build_summary

PARTS = ("student", "selector", "update")
"""Parts of a step whose time is reported; what the oracle takes was measured when it saw the whole stream."""
PRECISION, RECALL = ("ap50", "ap30"), "recall"
DRAWS = {"f1": 10_000, **dict.fromkeys((*PRECISION, RECALL), 1_000)}
"""Of a bootstrap; one of average precision is long."""

StreamCells = Mapping[tuple[str, float], Sequence[dict[str, Any]]]
"""Finished cells by method and share of calls, one for every seed and stream."""
StreamFigures = Mapping[tuple[str, float], Mapping[str, Mapping[str, Sequence[Measured]]]]
"""The same cells' figures, by method and share, range and metric."""


def by_method_and_share(study: StreamStudy, cells: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """Finished test cells; a method that does not depend on the seed has its one cell under every seed. Those without any are left out."""
    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    spec = study.spec
    for name in spec.methods:
        seeded = depends_on_seed(spec.methods[name])
        for share in shares_of(spec, name):
            for seed in spec.seeds:
                for stream in spec.test_streams:
                    content = cells.get(str(CellKey(name, -1, seed if seeded else spec.seeds[0], stream, share)))
                    if content is not None:
                        found.setdefault((name, share), []).append({**content, "seed": seed})
    return found


def as_counts(cell: Mapping[str, Any]) -> StreamCounts:
    """A cell's counts of every frame."""
    counts = {name: np.asarray(cell["counts"][name], np.int64) for name in ("right", "wrong", "missed")}
    return StreamCounts(seed=cell["seed"], stream=cell["place"], **counts)


def as_annotated(cell: Mapping[str, Any]) -> Annotated | None:
    """What a cell keeps of annotated frames; None without any."""
    return None if cell.get("annotated") is None else Annotated.of_columns(cell["annotated"])


def condition_of_share(share: float) -> str:
    """What a metric carries behind its @: calls5 for .05."""
    return f"calls{100 * share:g}"


def summarise_streams(study: StreamStudy, found: StreamCells) -> dict[str, Any]:
    """summary.json of a study. Raises DataError where no cell is finished, or methods spent unlike numbers of calls at one share.

    A method of which no share of calls is asked stands under every share of the study, so that the others can be compared with it.
    """
    if not found:
        raise DataError("no finished cell", study=study.path, hint=f"vidkd study {study.path}")
    spec = study.spec
    _check_calls(study, found)
    by_share = _under_shares(study, found)
    figures = {what: {place: _in_range(cells, place) for place in _ranges(cells)} for what, cells in by_share.items()}
    methods = {name: _method(study, name, by_share, figures) for name, _ in by_share}
    first = next(iter(found.values()))[0]
    data = {
        "name": ", ".join(spec.test_streams),
        "frames": {cell["place"]: cell["frames"] for cells in found.values() for cell in cells},
        "seeds": list(spec.seeds),
        "block": spec.block,
        "shorter_blocks": _shorter_blocks(study, figures),
        "reference": list(spec.reference),
        "labels": {name: spec.methods[name].label or name for name in methods},
    }
    seconds = sum(cell["seconds"]["whole"] for (name, _), cells in found.items() for cell in _without_copies(study, name, cells))
    return build_summary(spec.study, data, first["environment"], methods, _paired(study, figures), round(seconds, 1))


def _without_copies(study: StreamStudy, name: str, cells: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The cells as they were run: one that stands for every seed is there once."""
    if depends_on_seed(study.spec.methods[name]):
        return cells
    return list({cell["place"]: cell for cell in cells}.values())


def _check_calls(study: StreamStudy, found: StreamCells) -> None:
    """Raise DataError where methods of one share did not call the oracle equally often along a stream: they cannot be compared."""
    spent: dict[tuple[float, str], dict[int, list[str]]] = {}
    for (name, share), cells in found.items():
        for cell in cells if share else ():
            counts = spent.setdefault((share, f"{cell['seed']}/{cell['place']}"), {})
            counts.setdefault(len(cell["called"]), []).append(name)
    for (share, where), counts in spent.items():
        if len(counts) > 1:
            told = "; ".join(f"{count} by {', '.join(names)}" for count, names in counts.items())
            raise DataError(
                f"methods spent unlike numbers of calls in {where} at {100 * share:g} %: {told}",
                study=study.path,
                hint="give the study another name, and all cells are run again",
            )


def _under_shares(study: StreamStudy, found: StreamCells) -> dict[tuple[str, float], Sequence[dict[str, Any]]]:
    result: dict[tuple[str, float], Sequence[dict[str, Any]]] = {}
    for (name, share), cells in found.items():
        for shown in [share] if share else study.spec.calls:
            result[name, shown] = cells
    return result


def _ranges(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell["ranges"]))


def _in_range(cells: Sequence[Mapping[str, Any]], name: str) -> dict[str, list[Measured]]:
    """The figures within a named range, of the cells whose stream has it; those that are known of no cell are left out."""
    found: dict[str, list[Measured]] = {}
    for cell in cells:
        if name in cell["ranges"]:
            bounds = cell["ranges"][name]
            found.setdefault("f1", []).append(as_counts(cell).between(*bounds))
            for metric, one in _on_annotated(cell, bounds).items():
                found.setdefault(metric, []).append(one)
    return found


def _on_annotated(cell: Mapping[str, Any], bounds: Sequence[int]) -> dict[str, Measured]:
    """Average precision where every object in the range has its box, else recall; neither where nothing is to be found."""
    whole = as_annotated(cell)
    part = None if whole is None else whole.between(*bounds)
    if part is None or not len(part.places):
        return {}
    whose = {"seed": cell["seed"], "stream": cell["place"], "judged": part}
    found: dict[str, Measured] = {RECALL: StreamRecall(**whose)}
    if part.complete.all():
        found = {metric: StreamPrecision(**whose, metric=metric) for metric in PRECISION}
    return {metric: one for metric, one in found.items() if not np.isnan(one.value)}


def _shorter_blocks(study: StreamStudy, figures: StreamFigures) -> dict[str, list[int]]:
    """Metrics, with their ranges, whose intervals are of blocks of fewer counted frames than the study's, and how many these are."""
    lengths: dict[str, set[int]] = {}
    for of_method in figures.values():
        for place, metrics in of_method.items():
            for metric, cells in metrics.items():
                lengths.setdefault(_suffixed(metric, place), set()).update(block_of(one, study.spec.block) for one in cells)
    return {metric: sorted(blocks) for metric, blocks in lengths.items() if min(blocks) < study.spec.block}


def _learned(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells that have frames after their last kept update."""
    return [cell for cell in cells if cell["kept"] and cell["kept"][-1] + 1 < cell["frames"]]


def _after(cells: Sequence[Mapping[str, Any]], learned: Sequence[Mapping[str, Any]]) -> list[StreamCounts]:
    """Of each of the cells, counts of the frames after the last kept update of the learned one with its seed and stream."""
    last = {(cell["seed"], cell["place"]): cell["kept"][-1] for cell in learned}
    paired = [(cell, last[cell["seed"], cell["place"]]) for cell in cells if (cell["seed"], cell["place"]) in last]
    return [as_counts(cell).between(place + 1, cell["frames"]) for cell, place in paired]


def _suffixed(metric: str, name: str) -> str:
    return metric if name == WHOLE else f"{metric}_{name}"


def _method(study: StreamStudy, name: str, by_share: StreamCells, figures: StreamFigures) -> Method:
    metrics: dict[str, Metric] = {}
    own = {share: cells for (other, share), cells in by_share.items() if other == name}
    for share, cells in own.items():
        found = {
            _suffixed(metric, place): _metric(study, metric, cells_of)
            for place, metrics_of in figures[name, share].items()
            for metric, cells_of in metrics_of.items()
        }
        # each cell has a stretch of its own there, so blocks cannot be shared and no interval is given
        after = {_suffixed("f1", AFTER): cells}
        after |= {f"f1_{AFTER}_of_{other}": by_share.get((other, share), []) for other in study.spec.reference if other != name}
        for metric, whose in after.items():
            if counts := _after(whose, _learned(cells)):
                found[metric] = Metric(values={one.name: one.f1 for one in counts})
        found |= _plain_metrics(cells)
        metrics |= {f"{name}@{condition_of_share(share)}": metric for name, metric in found.items()}
    every = [cell for cells in own.values() for cell in cells]
    seconds = float(np.mean([cell["seconds"]["whole"] for cell in every]))
    return Method(metrics=metrics, train_seconds=round(seconds, 1), parameters=every[0]["parameters"])


def _metric(study: StreamStudy, metric: str, figures: Sequence[Measured]) -> Metric:
    found = stream_interval(figures, block=study.spec.block, draws=DRAWS[metric])
    return Metric(values={name_of(one): one.value for one in figures}, ci95=found.ci95)


def _plain_metrics(cells: Sequence[dict[str, Any]]) -> dict[str, Metric]:
    """Metrics that a cell holds as one number: calls, frames after the last update, time of the parts."""
    numbers: dict[str, Callable[[dict[str, Any]], float]] = {
        "oracle_calls": lambda cell: float(len(cell["called"])),
        "updates": lambda cell: float(len(cell["kept"])),
        "frames_after": lambda cell: float(cell["frames"] - 1 - cell["kept"][-1]) if cell["kept"] else float(cell["frames"]),
        "oracle_ms": lambda cell: 1e3 * float(cell["oracle_frame_s"]),
        "stream_ms": lambda cell: 1e3 * float(cell["seconds"]["stream"]) / float(cell["frames"]),
    }
    numbers |= {f"{part}_ms": _ms_of(part) for part in PARTS if all(part in cell["seconds"] for cell in cells)}
    return {name: _of_cells(cells, number) for name, number in numbers.items()}


def _ms_of(part: str) -> Callable[[dict[str, Any]], float]:
    """Milliseconds a frame of a part of the step."""
    return lambda cell: 1e3 * float(cell["seconds"][part]) / float(cell["frames"])


def _of_cells(cells: Sequence[dict[str, Any]], number: Callable[[dict[str, Any]], float]) -> Metric:
    return Metric(values={f"{cell['seed']}/{cell['place']}": number(cell) for cell in cells})


def _paired(study: StreamStudy, figures: StreamFigures) -> list[Paired]:
    """Every method minus each of `against`, at the same share, in every figure over the whole stream and over every range."""
    pairs = []
    for against in study.spec.reference:
        for (name, share), of_method in figures.items():
            others = figures.get((against, share))
            if others is None or name == against:
                continue
            for place, own in of_method.items():
                theirs = others.get(place, {})
                for metric in (metric for metric in own if metric in theirs):
                    pairs += _pair(study, (name, against, share, place), metric, own[metric], theirs[metric])
    return pairs


def _pair(
    study: StreamStudy, what: tuple[str, str, float, str], metric: str, figures: Sequence[Measured], others: Sequence[Measured]
) -> list[Paired]:
    if not {name_of(one) for one in figures} & {name_of(one) for one in others}:
        return []
    name, against, share, place = what
    found = stream_difference(figures, others, block=study.spec.block, draws=DRAWS[metric])
    shown = f"{_suffixed(metric, place)}@{condition_of_share(share)}"
    return [Paired(method=name, reference=against, metric=shown, difference=found.mean, ci95=found.ci95, pairs=found.cells)]
