"""The report of a study: from its summary, and its cells where they are at hand."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vidkd.base.progress import duration
from vidkd.bench.intervals import Cell, bootstrap_ci
from vidkd.bench.observed import AREA, observed_metric
from vidkd.bench.summary import CONDITION_PARAMETERS, CONDITION_SECONDS, Paired, check_summary
from vidkd.report.figures import accuracy_by_condition, paired_bars, seed_dots
from vidkd.report.moments import caption_of_time_rows
from vidkd.report.observed import remark_notes
from vidkd.report.parts import Estimate, Figure, Report, Strip, Table, TableCell, format_number, is_share

_CONDITION = re.compile(r"(?P<base>[^@]+)@(?P<word>[a-z_]+)(?P<number>\d+(\.\d+)?)(\.(?P<other>[a-z].*))?")
MOST_INTERVALS = 6
CONDITION_WORDS = {
    "labels": "labelled clips used (%)",
    "obs": "share of the clip observed (%)",
    "calls": "calls of the teacher",
}


def study_report(
    summary: Mapping[str, Any],
    *,
    cells: Mapping[str, Sequence[Cell]] | None = None,
    command: str = "",
    config_text: str = "",
    title: str = "",
    text: str = "",
    strips: Sequence[Strip] = (),
    strips_of: str = "",
    figures: Sequence[Figure] = (),
) -> Report:
    """Tables and figures of a summary (schema of `bench.summary`).

    cells: method -> its cells; they add how many clips and groups the numbers stand on, and why an interval is missing. title: by default
    the study's name. text: what the study asks and how. strips_of: the method whose predictions the strips tell. figures: further ones,
    below those of the summary.
    Raises DataError for a summary that does not follow the schema.
    """
    content = _labelled(check_summary(dict(summary), source="summary"))
    labels = _labels(summary["data"])
    owned = {labels.get(name, name): list(of_method) for name, of_method in (cells or {}).items()}
    methods, pairs = content["methods"], [_paired(row) for row in content["paired"]]
    return Report(
        title=title or str(content["study"]).replace("_", " "),
        text=text,
        subtitle=_subtitle(content["data"], methods),
        command=command,
        config_text=config_text,
        tables=(_results(methods, owned), *_difference_tables(pairs), *_condition_tables(methods)),
        figures=(*_figures(methods, pairs), *figures),
        strips=tuple(strips),
        strips_title=f"Clips, as named by: {strips_of}" if strips_of else "Clips",
        strips_caption=caption_of_time_rows(strips),
        notes=_notes(content, owned),
        environment={str(name): str(value) for name, value in content["environment"].items()},
    )


def _labels(data: Mapping[str, Any] | str) -> Mapping[str, str]:
    """How a reader names the methods, where `data.labels` says so."""
    found = data.get("labels", {}) if isinstance(data, Mapping) else {}
    return found if isinstance(found, Mapping) and len(set(found.values())) == len(found) else {}


def _labelled(content: Mapping[str, Any]) -> dict[str, Any]:
    """The summary with its methods under their labels."""
    labels = _labels(content["data"])
    methods = {labels.get(name, name): method for name, method in content["methods"].items()}
    paired = [{**pair, **{side: labels.get(pair[side], pair[side]) for side in ("method", "reference")}} for pair in content["paired"]]
    return {**content, "methods": methods, "paired": paired}


def estimate_of(metric: str, row: Mapping[str, Any]) -> Estimate:
    """The mean and interval of a metric as summary.json has it."""
    return Estimate(value=row["mean"], ci95=_bounds(row["ci95"]), percent=is_share(metric))


def _bounds(bounds: Sequence[float] | None) -> tuple[float, float] | None:
    return None if bounds is None else (bounds[0], bounds[1])


def _paired(row: Mapping[str, Any]) -> Paired:
    return Paired(**{**row, "ci95": _bounds(row["ci95"])})


def _subtitle(data: Mapping[str, Any] | str, methods: Mapping[str, Any]) -> str:
    named = data if isinstance(data, Mapping) else {"name": data}
    subset = next((f", {key} {named[key]}" for key in ("subset", "split") if key in named), "")
    return f"{len(methods)} methods" + (f" on {named['name']}{subset}" if named.get("name") else "")


def _metrics(methods: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(metric for method in methods.values() for metric in method["metrics"]))


def _results(methods: Mapping[str, Any], cells: Mapping[str, Sequence[Cell]]) -> Table:
    metrics = [metric for metric in _metrics(methods) if not _CONDITION.fullmatch(metric)]
    heads = [f"{metric_words(metric)} (%)" if is_share(metric) else metric for metric in metrics]
    columns = ("method", *heads, "cells", "parameters", "training")
    rows = tuple(_result_row(name, method, metrics) for name, method in methods.items())
    return Table(title="Methods", columns=columns, rows=rows, caption=_interval_caption(methods, cells))


def _result_row(name: str, method: Mapping[str, Any], metrics: Sequence[str]) -> tuple[TableCell, ...]:
    found: list[TableCell] = [estimate_of(metric, method["metrics"][metric]) if metric in method["metrics"] else None for metric in metrics]
    trained = None if method["train_seconds"] is None else duration(method["train_seconds"])
    return (name, *found, max(row["n"] for row in method["metrics"].values()), method["parameters"], trained)


def _interval_caption(methods: Mapping[str, Any], cells: Mapping[str, Sequence[Cell]]) -> str:
    known = any(row["ci95"] for method in methods.values() for row in method["metrics"].values())
    what = "Means over cells (seed and fold); in brackets the 95 % interval over seeds and test groups." if known else "Means over cells."
    reasons = {note for owned in cells.values() if owned and (note := bootstrap_ci(owned, draws=1).note)}
    timed = any(method["train_seconds"] is not None for method in methods.values())
    told = [f"{reason[0].upper()}{reason[1:]}." for reason in sorted(reasons)]
    return " ".join([what, *told, *(["Training is time on the machine, whatever else it did."] if timed else [])])


def metric_words(metric: str) -> str:
    """A metric's name for a reader: `top1, 20-50 % observed`; others as they are."""
    observed = observed_metric(metric)
    if observed is None:
        return metric
    return f"{observed.base}, {observed.percent} observed" + (f", {observed.condition}" if observed.condition else "")


def _difference_tables(pairs: Sequence[Paired]) -> list[Table]:
    """One row a pair; with differences at observed shares these in a table of their own, one row a pair of methods."""
    plain = [pair for pair in pairs if observed_metric(pair.metric) is None]
    observed = [pair for pair in pairs if observed_metric(pair.metric) is not None]
    return [*([_differences(plain)] if plain else []), *([_observed_differences(observed)] if observed else [])]


def _observed_differences(pairs: Sequence[Paired]) -> Table:
    metrics = {pair.metric: found for pair in pairs if (found := observed_metric(pair.metric))}
    columns = list(dict.fromkeys(found.percent for found in metrics.values()))
    rows: dict[tuple[str, str, str], dict[str, Estimate]] = {}
    for pair in pairs:
        found = metrics[pair.metric]
        estimate = Estimate(value=pair.difference, ci95=pair.ci95, percent=is_share(pair.metric), signed=True)
        rows.setdefault((pair.method, pair.reference, found.condition), {})[found.percent] = estimate
    table = tuple((_conditioned(method, other), against, *map(cells.get, columns)) for (method, against, other), cells in rows.items())
    caption = (
        "Method minus what it is compared with, in percentage points, at observed shares of the clip and in the mean over a range of them."
    )
    return Table(title="Paired differences by observed share", columns=("method", "reference", *columns), rows=table, caption=caption)


def _conditioned(name: str, condition: str | None) -> str:
    return f"{name} @ {condition}" if condition else name


def _differences(pairs: Sequence[Paired]) -> Table:
    rows = tuple(
        (
            pair.method,
            Estimate(value=pair.difference, ci95=pair.ci95, percent=is_share(pair.metric), signed=True),
            pair.reference,
            pair.metric,
            pair.pairs,
        )
        for pair in pairs
    )
    caption = "Method minus what it is compared with, on the same seed, fold and clips; shares in percentage points."
    return Table(title="Paired differences", columns=("method", "difference", "reference", "metric", "pairs"), rows=rows, caption=caption)


def _figures(methods: Mapping[str, Any], pairs: Sequence[Paired]) -> list[Figure]:
    figures = [_dots(methods, metric) for metric in _metrics(methods) if _is_summed_up(metric) and _is_judged(methods, metric)]
    compared = [metric for metric in dict.fromkeys(pair.metric for pair in pairs) if observed_metric(metric) is None or _is_mean(metric)]
    bars = [paired_bars(pairs, metric=metric, words=metric_words(metric)) for metric in compared]
    return [*condition_figures(methods, "obs"), *figures, *bars, *condition_figures(methods)]


def _is_mean(metric: str) -> bool:
    """Whether a metric is the mean over a range of observed shares."""
    observed = observed_metric(metric)
    return observed is not None and observed.is_range


def _is_summed_up(metric: str) -> bool:
    """Whether a metric is one number of a method: under no condition, or a mean over observed shares; the area says what the mean does."""
    return _is_mean(metric) or ("@" not in metric and metric != AREA)


def _is_judged(methods: Mapping[str, Any], metric: str) -> bool:
    """Whether a metric has a figure of its own: top1, and what has an interval."""
    return metric == "top1" or any(method["metrics"][metric]["ci95"] for method in methods.values() if metric in method["metrics"])


def _dots(methods: Mapping[str, Any], metric: str) -> Figure:
    having = {name: method["metrics"][metric] for name, method in methods.items() if metric in method["metrics"]}
    values = {name: row["values"] for name, row in having.items()}
    unit = "%" if is_share(metric) else metric
    estimates = {name: estimate_of(metric, row) for name, row in having.items()}
    return seed_dots(values, estimates, title=f"{metric_words(metric)} of every seed", unit=unit)


def _by_condition(methods: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, dict[float, Estimate]]]:
    """(metric, condition's word) -> method -> value of the condition -> estimate, of metrics such as top1@labels10."""
    found: dict[tuple[str, str], dict[str, dict[float, Estimate]]] = {}
    for name, method in methods.items():
        for metric, row in method["metrics"].items():
            if match := _CONDITION.fullmatch(metric):
                series = found.setdefault((match["base"], match["word"]), {}).setdefault(_conditioned(name, match["other"]), {})
                series[float(match["number"])] = estimate_of(metric, row)
    return found


def condition_figures(methods: Mapping[str, Any], only: str | None = None) -> list[Figure]:
    """Curves of methods (name -> its metrics) over observed shares (`only` obs), or over every other condition."""
    return [
        accuracy_by_condition(series, title=_by_words(base, word), condition=_words(word), unit="%" if is_share(base) else base)
        for (base, word), series in _by_condition(methods).items()
        if (word == only or (only is None and word != "obs")) and any(len(points) > 1 for points in series.values())
        if base not in (CONDITION_SECONDS, CONDITION_PARAMETERS)
    ]


def _by_words(base: str, word: str) -> str:
    return f"{base} by {'observed share' if word == 'obs' else word}"


def _condition_tables(methods: Mapping[str, Any]) -> list[Table]:
    return [_condition_table(base, word, series) for (base, word), series in _by_condition(methods).items()]


def _condition_table(base: str, word: str, series: Mapping[str, Mapping[float, Estimate]]) -> Table:
    """A row a method; of more than MOST_INTERVALS columns only the means, since intervals would hide them."""
    places = sorted({place for points in series.values() for place in points})
    crowded = len(places) > MOST_INTERVALS
    rows = tuple((name, *(_mean_only(points.get(place), crowded) for place in places)) for name, points in series.items())
    caption = f"Columns: {_words(word)}." + (" Means; the figure has their intervals." if crowded else "")
    title = _by_words(f"{base} (%)" if is_share(base) else base, word)
    return Table(title=title, columns=("method", *(f"{place:g}" for place in places)), rows=rows, caption=caption)


def _mean_only(estimate: Estimate | None, crowded: bool) -> Estimate | None:
    return dataclasses.replace(estimate, ci95=None) if estimate is not None and crowded else estimate


def _words(word: str) -> str:
    return CONDITION_WORDS.get(word, word)


def _notes(content: Mapping[str, Any], cells: Mapping[str, Sequence[Cell]]) -> dict[str, str]:
    names = {cell for method in content["methods"].values() for row in method["metrics"].values() for cell in row["values"]}
    seeds, folds = ({cell.split("/", 1)[place] for cell in names} for place in (0, 1))
    notes = {"seeds": str(len(seeds)), "folds": str(len(folds)), "time": duration(content["seconds"])}
    if isinstance(content["data"], Mapping):
        labels = _labels(content["data"])
        named = {key: str(content["data"].get(key) or "") for key in ("reference", "claim")}
        notes |= {key: labels.get(name, name) for key, name in named.items() if name}
    judged = {cell.fold: cell for owned in cells.values() for cell in owned}
    if judged:
        notes["test clips"] = format_number(sum(len(cell.correct) for cell in judged.values()))
        notes["test groups"] = format_number(sum(len(set(cell.group.tolist())) for cell in judged.values()))
    remarks = content["data"].get("remarks", []) if isinstance(content["data"], Mapping) else []
    return {**notes, **remark_notes(remarks)}
