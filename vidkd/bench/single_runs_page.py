"""Sections of docs/results.md from the kept summaries of benchmarks and of recipes of compression, which are of single models."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidkd.bench.compression import compression_rows
from vidkd.bench.results_page import markdown_table
from vidkd.bench.speed.compare import accuracy_notes, held_against
from vidkd.bench.speed.statistics import percentile_interval
from vidkd.bench.summary import read_summary
from vidkd.bench.tables import Rows, interval, percent
from vidkd.bench.widening import half_width, part_of

ACCURACIES = ("top1", "ap50", "recall50")
BENCHMARKS = """
# Benchmarks

Kept summaries of `vidkd benchmark`. Models take turns in every round; intervals are 95 %, of accuracy over groups of clips or stretches of
video, of times over rounds. Times are of one sample on one thread. Differences in accuracy, which are paired, and ratios are to the
model that the row names: the baseline, or another one, as a compressed model's own original in the same runtime.
"""
RECIPES = """
# Recipes of compression

Kept summaries of `vidkd compress`. Where a recipe was run with several seeds, the metric of each stands there and their mean.
"""


def single_runs_page(results: Path) -> str:
    """Benchmarks of `results/benchmark` and recipes of `results/compress`; empty without any. Raises DataError for what is no summary."""
    benchmarks, recipes = (
        [read_summary(path) for path in sorted((results / kind).glob("*.json"), key=lambda path: path.stem)]
        for kind in ("benchmark", "compress")
    )
    sections = [BENCHMARKS, *map(benchmark_section, benchmarks)] if benchmarks else []
    by_recipe: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for summary in recipes:
        # one file of a recipe may be given other students on the command line
        by_recipe.setdefault(tuple(str(summary["data"][key]) for key in ("config", "student", "subset")), []).append(summary)
    sections += [RECIPES, *map(recipe_section, by_recipe.values())] if recipes else []
    return "".join(sections)


def benchmark_section(summary: Mapping[str, Any]) -> str:
    """Heading, what its file says of it, and a row for each model."""
    data, environment = summary["data"], summary["environment"]
    judged = f"{data['name']}, '{data['subset']}'" if data["subset"] else str(data["name"])
    facts = f"{judged}; {data['rounds']} rounds on {environment['processor']}, torch {environment['torch']}."
    facts = " ".join([facts, *accuracy_notes(data)])
    return "\n".join([f"\n## {data['benchmark']}\n", _told(data["config"]), facts + "\n", markdown_table(benchmark_rows(summary))])


def benchmark_rows(summary: Mapping[str, Any]) -> Rows:
    """What each model is held against; accuracy, latency and end to end of one sample on one thread, both times with ratios; and size."""
    methods, data = summary["methods"], summary["data"]
    metric = next((name for name in ACCURACIES if any(name in method["metrics"] for method in methods.values())), "")
    pairs = {pair["method"]: pair for pair in summary["paired"] if pair["metric"] == metric}
    heads = (metric, "95 %", "difference", "95 %") if metric else ()
    rows: Rows = [
        ("model", "against", *heads, "ms", "times as long", "95 %", "file to answer ms", "times as long", "95 %", "MACs", "bytes")
    ]
    for label in sorted(methods, key=lambda each: each != data["baseline"]):
        metrics = methods[label]["metrics"]
        times = [text for kind in ("latency", "end_to_end") for text in _times(metrics, kind)]
        costs = (_millions(metrics.get("macs")), _whole(metrics.get("file_bytes")))
        accuracy = _accuracy(metrics.get(metric), pairs.get(label)) if metric else ()
        rows.append((label, held_against(data, label) or "", *accuracy, *times, *costs))
    return rows


def _accuracy(found: Mapping[str, Any] | None, pair: Mapping[str, Any] | None) -> tuple[str, ...]:
    value = (percent(found["mean"]), interval(found["ci95"])) if found else ("", "")
    return (*value, *((f"{100 * pair['difference']:+.1f}", interval(pair["ci95"], signed=True)) if pair else ("", "")))


def _times(metrics: Mapping[str, Any], kind: str) -> tuple[str, str, str]:
    found, ratio = (metrics.get(f"{kind}_{unit}@b1t1") for unit in ("ms", "ratio"))
    value = f"{found['mean']:.3g}" if found else ""
    if ratio is None:
        return value, "", ""
    bounds = "{:.3f} to {:.3f}".format(*ratio["ci95"]) if ratio["ci95"] else ""
    return value, f"{ratio['mean']:.3f}", bounds


def _millions(found: Mapping[str, Any] | None) -> str:
    return f"{found['mean'] / 1e6:,.1f} M" if found else ""


def _whole(found: Mapping[str, Any] | None) -> str:
    return f"{found['mean']:,.0f}" if found else ""


def recipe_section(runs: Sequence[Mapping[str, Any]]) -> str:
    """Heading, what its file says of it, and a row for each step; runs: the same recipe with other seeds."""
    data, environment = runs[0]["data"], runs[0]["environment"]
    seconds = sum(run["seconds"] for run in runs)
    facts = f"Student {data['student']}, judged on '{data['subset']}'; {seconds / 60:.0f} min on {environment['processor']}."
    names, seeds = zip(*(_name_and_seed(run["study"]) for run in runs), strict=True)
    if any(seeds):
        facts = f"Seed{'s' if len(runs) > 1 else ''} {', '.join(seed or 'of the recipe' for seed in seeds)} (`--seed`). {facts}"
    rows = compression_rows(runs[0], data["main"]) if len(runs) == 1 else seeded_rows(runs, data["main"])
    return "\n".join([f"\n## {names[0].replace('_', ' ')}\n", _told(data["config"]), facts + "\n", markdown_table(rows)])


def _name_and_seed(study: str) -> tuple[str, str]:
    """The name of a recipe's run, and the seed that `vidkd compress --seed N` put at its end; "" without one."""
    name, _, seed = study.rpartition("-seed")
    return (name, seed) if name and seed.isdecimal() else (study, "")


def seeded_rows(runs: Sequence[Mapping[str, Any]], main: str) -> Rows:
    """A row for each step: the main metric in the mean and of each run, its difference to the original, and the costs of the first run.

    The interval of the difference is over seeds and groups; there is none without draws of groups.
    """
    single = compression_rows(runs[0], main)
    original = next(iter(runs[0]["methods"]))
    rows: Rows = [("step", main, "of each seed", "- original", "95 %", *single[0][5:])]
    for row in single[1:]:
        values = [run["methods"][row[0]]["metrics"][main]["mean"] for run in runs]
        before = [run["methods"][original]["metrics"][main]["mean"] for run in runs]
        difference = "" if row[0] == original else f"{100 * (sum(values) - sum(before)) / len(runs):+.1f}"
        bounds = "" if row[0] == original else interval(_over_seeds(runs, row[0], original), signed=True)
        rows.append((row[0], percent(sum(values) / len(values)), ", ".join(map(percent, values)), difference, bounds, *row[5:]))
    return rows


def _over_seeds(runs: Sequence[Mapping[str, Any]], step: str, original: str) -> tuple[float, float] | None:
    """Interval of the mean difference to the original: that over groups, each drawn alike for all seeds, and Student's over seeds, at right
    angles. None without draws of groups.
    """
    draws = [run["data"].get("draws", {}) for run in runs]
    if any(len(found.get(step, ())) != len(draws[0].get(original, ())) or not found.get(original) for found in draws):
        return None
    main = runs[0]["data"]["main"]
    steps, originals = ([run["methods"][name]["metrics"][main]["mean"] for run in runs] for name in (step, original))
    single = np.subtract(steps, originals)
    mean = float(single.mean())
    bounds = percentile_interval(np.mean([np.subtract(found[step], found[original]) for found in draws], axis=0))
    if bounds is None:
        return None
    of_seeds = half_width([part_of((single - mean) / len(single))])
    below, above = (math.hypot(off, of_seeds) for off in (min(bounds[0] - mean, 0), max(bounds[1] - mean, 0)))
    return mean - below, mean + above


def _told(config: str) -> str:
    """The command and the text that a file of ours begins with, as comments."""
    comments = []
    for line in config.splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("# "))
    return "".join(f"{part}\n" for part in ([f"`{comments[0]}`", "", " ".join(comments[1:])] if comments else []))
