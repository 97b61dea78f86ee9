"""What a benchmark leaves: summary.json, in the schema of all studies."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from vidkd.bench.speed.accuracy import difference
from vidkd.bench.speed.cold_start import ColdStart
from vidkd.bench.speed.end_to_end import DECODE, TOTAL
from vidkd.bench.speed.rounds import Figure, median, rate, ratio
from vidkd.bench.speed.run import ModelResult, Results
from vidkd.bench.summary import Method, Metric, Paired, build_summary

MIB = 2**20
COLD = {"cold_start_s": "total_s", "first_answer_s": "answer_s", "memory_mib": "peak_bytes"}
"""Metrics of cold starts, and what of them they are the median of."""


def summary_of(results: Results, config_text: str = "", command: str = "") -> dict[str, Any]:
    """The content of summary.json.

    A benchmark is of single models, so every figure has one cell: `values` holds it, `mean` repeats it, `ci95` is its interval over rounds
    (accuracy: over test groups). `latency_n@...` is the number of calls. `data.models` describes each model; `reference` is the model that
    its ratios and its difference are to. `data.interrupted` is there if the user stopped the run. config_text: of the file.
    """
    config, models = results.config, results.models
    cell = f"0/{config.data.split if config.data is not None else 'all'}"
    methods = {}
    for label, model in models.items():
        figures = figures_of(model, models[config.against(label) or label], seed=config.seed)
        metrics = {name: Metric(values={cell: figure.value}, ci95=figure.ci95) for name, figure in figures.items()}
        methods[label] = Method(metrics=metrics, parameters=model.cost.parameters)
    data = {
        "benchmark": config.title or config.name,
        "name": results.data or "noise",
        "manifest": results.manifest,
        "split": None if config.data is None else config.data.split,
        "subset": None if config.data is None else config.data.subset,
        "kind": models[config.base].kind,
        "baseline": config.base,
        "rounds": len(next(iter(models[config.base].latency.values()))),
        "cold_starts": max(len(model.cold) for model in models.values()),
        **({"interrupted": True} if results.interrupted else {}),
        "cold_start_threads": config.threads[0],
        "models": {label: {**_facts(model), "reference": config.against(label)} for label, model in models.items()},
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
        if against is None or base is None or model.accuracy is None or (found := difference(model.accuracy, base)) is None:
            continue
        metric, figure = found
        pairs.append(Paired(method=label, reference=against, metric=metric, difference=figure.value, ci95=figure.ci95, pairs=figure.n))
    return pairs


def figures_of(model: ModelResult, base: ModelResult, *, seed: int = 0) -> dict[str, Figure]:
    """Every figure of a model by the name that it has in summary.json. base: the model that ratios are to; of itself it has none."""
    found: dict[str, Figure] = dict(model.accuracy.metrics) if model.accuracy is not None else {}
    ms = partial(median, scale=1e3, seed=seed)
    for condition, rounds in model.latency.items():
        at = f"@{condition}"
        found |= {f"latency_ms{at}": ms(rounds), f"latency_p95_ms{at}": ms(rounds, percent=95)}
        found |= {f"latency_n{at}": Figure(value=sum(map(len, rounds))), f"throughput{at}": rate(rounds, each=condition.batch, seed=seed)}
        if base is not model:
            found[f"latency_ratio{at}"] = ratio(rounds, base.latency[condition], seed=seed)
    for condition, parts in model.end_to_end.items():
        at, whole = f"@{condition}", [each[TOTAL] for each in parts]
        found |= {f"end_to_end_p95_ms{at}": ms(whole, percent=95), f"end_to_end_n{at}": Figure(value=sum(map(len, whole)))}
        for name in parts[0]:
            found[f"end_to_end{'' if name == TOTAL else f'_{name}'}_ms{at}"] = ms([each[name] for each in parts])
        found[f"end_to_end_decode_share{at}"] = ratio([each[DECODE] for each in parts], whole, seed=seed)
        if base is not model and condition in base.end_to_end:
            found[f"end_to_end_ratio{at}"] = ratio(whole, [each[TOTAL] for each in base.end_to_end[condition]], seed=seed)
    if model.cold:
        on_gpu = {"gpu_memory_mib": "peak_gpu_bytes"} if all(start.peak_gpu_bytes is not None for start in model.cold) else {}
        for name, part in {**COLD, **on_gpu}.items():
            found[name] = median(_each(model.cold, part), scale=1 / MIB if name.endswith("mib") else 1.0, seed=seed)
        if base is not model and base.cold:
            found["cold_start_ratio"] = ratio(_each(model.cold, "total_s"), _each(base.cold, "total_s"), seed=seed)
    costs = {name: getattr(model.cost, name) for name in ("parameters", "macs", "macs_torch", "file_bytes")}
    return found | {name: Figure(value=value) for name, value in costs.items() if value is not None}


def _each(cold: Sequence[ColdStart], part: str) -> list[list[float]]:
    """A part of every cold start, as rounds of one."""
    return [[getattr(start, part)] for start in cold]


def _facts(model: ModelResult) -> dict[str, Any]:
    return {
        "what": model.what,
        "runs_on": model.runs_on,
        "input": model.input,
        "judged_on": None if model.accuracy is None else model.accuracy.on,
        "fractions": [] if model.accuracy is None else list(model.accuracy.fractions),
        "cold_start_failed": model.cold_failure,
        "notes": [*model.cost.notes, *([f"cold start failed: {model.cold_failure}"] if model.cold_failure else [])],
    }
