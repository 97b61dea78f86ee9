"""What a benchmark leaves: summary.json, in the schema of all studies, and measurements.json with every call."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vidkd.bench.speed.accuracy import difference
from vidkd.bench.speed.end_to_end import TOTAL
from vidkd.bench.speed.run import Condition, ModelResult, Results
from vidkd.bench.speed.statistics import Figure, median, p95, rate, ratio
from vidkd.bench.summary import Method, Metric, Paired, build_summary

MIB = 2**20


def summary_of(results: Results, config_text: str = "", command: str = "") -> dict[str, Any]:
    """The content of summary.json.

    A benchmark is of single models, so every figure has one cell: `values` holds it, `mean` repeats it, `ci95` is its interval over rounds
    (accuracy: over test groups). `latency_n@...` is the number of calls. `data.models` describes each model; `reference` is the model that
    its ratios and its difference are to. `data.interrupted` is there if the user stopped the run. config_text: of the file.
    """
    config, cell = results.config, _cell(results)
    figures = {
        label: figures_of(model, results.models[config.against(label) or label], seed=config.seed)
        for label, model in results.models.items()
    }
    methods = {
        label: Method(
            metrics={name: Metric(values={cell: figure.value}, ci95=figure.ci95) for name, figure in found.items()},
            parameters=results.models[label].cost.parameters,
        )
        for label, found in figures.items()
    }
    data = {
        "benchmark": config.title or config.name,
        "name": results.data or "noise",
        "manifest": results.manifest,
        "split": None if config.data is None else config.data.split,
        "subset": None if config.data is None else config.data.subset,
        "kind": results.models[config.base].kind,
        "baseline": config.base,
        "rounds": len(next(iter(results.models[config.base].latency.values()))),
        "cold_starts": max(len(model.cold) for model in results.models.values()),
        **({"interrupted": True} if results.interrupted else {}),
        "cold_start_threads": config.threads[0],
        "models": {label: {**_facts(model), "reference": config.against(label)} for label, model in results.models.items()},
        "device": results.device,
        "config": config_text,
        "command": command,
    }
    return build_summary(config.name, data, results.environment, methods, pairs_of(results), results.seconds)


def pairs_of(results: Results) -> list[Paired]:
    """The main metric (top-1, AP50 or recall) of every model minus that of the model it is compared with, paired on the same samples."""
    pairs = []
    for label, model in results.models.items():
        against = results.config.against(label)
        base = None if against is None else results.models[against].accuracy
        if against is None or base is None or model.accuracy is None:
            continue
        if (found := difference(model.accuracy, base)) is not None:
            metric, figure = found
            pairs.append(Paired(method=label, reference=against, metric=metric, difference=figure.value, ci95=figure.ci95, pairs=figure.n))
    return pairs


def figures_of(model: ModelResult, base: ModelResult, *, seed: int = 0) -> dict[str, Figure]:
    """Every figure of a model by the name that it has in summary.json. base: the model that ratios are to; of itself it has none."""
    found: dict[str, Figure] = dict(model.accuracy.metrics) if model.accuracy is not None else {}
    for condition, rounds in model.latency.items():
        found |= _latency(condition, rounds, base.latency[condition] if base is not model else None, seed)
    for condition, parts in model.end_to_end.items():
        found |= _end_to_end(condition, parts, base.end_to_end.get(condition) if base is not model else None, seed)
    return found | _cold(model, base, seed) | _costs(model)


def _latency(
    condition: Condition, rounds: Sequence[Sequence[float]], base: Sequence[Sequence[float]] | None, seed: int
) -> dict[str, Figure]:
    at = f"@{condition}"
    found = {
        f"latency_ms{at}": median(rounds, scale=1e3, seed=seed),
        f"latency_p95_ms{at}": p95(rounds, scale=1e3, seed=seed),
        f"latency_n{at}": Figure(value=sum(map(len, rounds))),
        f"throughput{at}": rate(rounds, each=condition.batch, seed=seed),
    }
    return found if base is None else {**found, f"latency_ratio{at}": ratio(rounds, base, seed=seed)}


def _end_to_end(
    condition: Condition, rounds: Sequence[Mapping[str, list[float]]], base: Sequence[Mapping[str, list[float]]] | None, seed: int
) -> dict[str, Figure]:
    at = f"@{condition}"
    whole = [parts[TOTAL] for parts in rounds]
    found = {
        f"end_to_end_ms{at}": median(whole, scale=1e3, seed=seed),
        f"end_to_end_p95_ms{at}": p95(whole, scale=1e3, seed=seed),
        f"end_to_end_n{at}": Figure(value=sum(map(len, whole))),
    }
    for name in rounds[0]:
        if name != TOTAL:
            found[f"end_to_end_{name}_ms{at}"] = median([parts[name] for parts in rounds], scale=1e3, seed=seed)
    return found if base is None else {**found, f"end_to_end_ratio{at}": ratio(whole, [parts[TOTAL] for parts in base], seed=seed)}


def _cold(model: ModelResult, base: ModelResult, seed: int) -> dict[str, Figure]:
    if not model.cold:
        return {}

    def of(value: Callable[[Any], float], cold: Sequence[Any] = model.cold) -> list[list[float]]:
        return [[value(start)] for start in cold]

    found = {
        "cold_start_s": median(of(lambda start: start.total_s), seed=seed),
        "cold_start_ready_s": median(of(lambda start: start.ready_s), seed=seed),
        "first_answer_s": median(of(lambda start: start.answer_s), seed=seed),
        "memory_mib": median(of(lambda start: start.peak_bytes / MIB), seed=seed),
    }
    if all(start.peak_gpu_bytes is not None for start in model.cold):
        found["gpu_memory_mib"] = median(of(lambda start: start.peak_gpu_bytes / MIB), seed=seed)
    if base is not model and base.cold:
        found["cold_start_ratio"] = ratio(of(lambda s: s.total_s), of(lambda s: s.total_s, base.cold), seed=seed)
    return found


def _costs(model: ModelResult) -> dict[str, Figure]:
    cost = model.cost
    known = {"parameters": cost.parameters, "macs": cost.macs, "macs_torch": cost.macs_torch, "file_bytes": cost.file_bytes}
    return {name: Figure(value=value) for name, value in known.items() if value is not None}


def _facts(model: ModelResult) -> dict[str, Any]:
    return {
        "what": model.what,
        "runs_on": model.runs_on,
        "input": model.input,
        "judged_on": None if model.accuracy is None else model.accuracy.on,
        "fractions": [] if model.accuracy is None else list(model.accuracy.fractions),
        "torch_at_start": model.cold[0].torch if model.cold else None,
        "cold_start_failed": model.cold_failure,
        "notes": [*model.cost.notes, *([f"cold start failed: {model.cold_failure}"] if model.cold_failure else [])],
    }


def _cell(results: Results) -> str:
    return f"0/{results.config.data.split if results.config.data is not None else 'all'}"


def measurements_of(results: Results) -> dict[str, Any]:
    """The content of measurements.json: seconds of all calls by condition and round, of the parts from file to answer, of cold starts."""
    return {
        label: {
            "latency_s": {str(condition): rounds for condition, rounds in model.latency.items()},
            "end_to_end_s": {str(condition): [dict(parts) for parts in rounds] for condition, rounds in model.end_to_end.items()},
            "cold_starts": [dataclasses.asdict(start) for start in model.cold],
        }
        for label, model in results.models.items()
    }
