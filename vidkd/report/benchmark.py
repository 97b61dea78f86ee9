"""The report of a benchmark, from its summary: tables that sort, accuracy against what it costs, and where the time goes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vidkd.base.progress import duration
from vidkd.bench.speed.compare import check_is_benchmark, held_against
from vidkd.bench.summary import check_summary
from vidkd.report.figures import accuracy_by_condition
from vidkd.report.pareto import Point, pareto_figure, parts_figure
from vidkd.report.parts import Estimate, Figure, Report, Table, TableCell, format_number, is_share

MIB = 2**20
JUDGED = ("top1", "ap50", "recall50")
WORDS = {"top1": "top-1", "ap50": "AP50", "recall50": "recall"}
PARTS = {"decode": "decoding, resizing", "flow": "optical flow", "model": "model"}
BUSY = 0.3
"""Load of each core before a benchmark from which on its report says that others were at work."""
EMPTY = "\N{EN DASH}"
_CONDITION = re.compile(r"latency_ms@b(\d+)t(\d+)")
Metrics = Mapping[str, Any]


def benchmark_report(summary: Mapping[str, Any], *, command: str = "") -> Report:
    """Tables and figures of a benchmark's summary.

    Raises DataError for a summary that does not follow the schema, or is of no benchmark.
    """
    content = check_summary(dict(summary), source="summary")
    check_is_benchmark(content)
    data, methods = content["data"], {name: method["metrics"] for name, method in content["methods"].items()}
    judged = next((name for name in JUDGED if any(name in metrics for metrics in methods.values())), None)
    first = _first_condition(methods)
    tables = [
        _overview(methods, content, judged, first),
        _sizes(methods, data),
        _conditions(methods, data),
        *_ways(methods, data),
        _models(data),
    ]
    return Report(
        title=str(data["benchmark"]).replace("_", " "),
        subtitle=f"Speed against accuracy of {len(methods)} models, {_held_against(data, methods)}.",
        command=command,
        config_text=str(data.get("config", "")),
        tables=tuple(tables),
        figures=tuple(_figures(methods, judged, first, accuracy_notes(data))),
        notes=_notes(content),
        environment={str(name): str(value) for name, value in content["environment"].items()},
    )


def accuracy_notes(data: Mapping[str, Any]) -> list[str]:
    """Sentences that belong to every accuracy of classifiers: one window of each clip, and means over observed fractions."""
    judged = [model["judged_on"] for model in data["models"].values() if model["judged_on"]]
    notes = ["Accuracy is that of one window and one crop of each clip, as it is timed."] if judged and data["kind"] == "classifier" else []
    by_fractions: dict[tuple[float, ...], list[str]] = {}
    for label, model in data["models"].items():
        if fractions := tuple(model.get("fractions") or ()):
            by_fractions.setdefault(fractions, []).append(label)
    for fractions, labels in by_fractions.items():
        shares = ", ".join(f"{100 * each:g}" for each in fractions)
        notes.append(
            f"Accuracy of {', '.join(labels)} is the mean over {shares} % of a clip; the answer at {100 * fractions[-1]:g} % is timed."
        )
    return notes


def _held_against(data: Mapping[str, Any], methods: Iterable[str]) -> str:
    """What differences and ratios are to, in words."""
    names = {held_against(data, label) for label in methods} - {None, data["baseline"]}
    return f"all compared with {data['baseline']}" if not names else f"compared with {data['baseline']}, or what the tables name instead"


def _against(data: Mapping[str, Any], label: str) -> str:
    return held_against(data, label) or EMPTY


def _first_condition(methods: Mapping[str, Metrics]) -> tuple[int, int]:
    return _all_conditions(methods)[0]


def _all_conditions(methods: Mapping[str, Metrics]) -> list[tuple[int, int]]:
    """(Batch, threads), fewest threads first, then the smallest batch."""
    names = {name for metrics in methods.values() for name in metrics}
    found = {(int(match[1]), int(match[2])) for name in names if (match := _CONDITION.fullmatch(name))}
    return sorted(found, key=lambda pair: pair[::-1])


def _estimate(metrics: Metrics, name: str, *, scale: float = 1.0) -> Estimate | None:
    row = metrics.get(name)
    if row is None:
        return None
    bounds = None if row["ci95"] is None else (row["ci95"][0] * scale, row["ci95"][1] * scale)
    return Estimate(value=row["mean"] * scale, ci95=bounds, percent=is_share(name))


def _plain(metrics: Metrics, name: str) -> float | None:
    return float(metrics[name]["mean"]) if name in metrics else None


def _count(metrics: Metrics, name: str) -> int | None:
    return round(metrics[name]["mean"]) if name in metrics else None


def _overview(methods: Mapping[str, Metrics], content: Mapping[str, Any], judged: str | None, first: tuple[int, int]) -> Table:
    at, alone = _at(*first), _at(1, first[1])
    base = content["data"]["baseline"]
    gains = {pair["method"]: pair for pair in content["paired"]}
    columns = ["model", "reference", *([f"{WORDS[judged]} (%)", "difference"] if judged else [])]
    columns += ["latency (ms)", "p95", "calls", "ratio", "end to end (ms)"]
    rows = []
    for label, metrics in methods.items():
        row: list[TableCell] = [label, _against(content["data"], label)]
        row += [_estimate(metrics, judged), Estimate.of_pair(gains.get(label))] if judged else []
        row += [_estimate(metrics, f"latency_ms{at}"), _plain(metrics, f"latency_p95_ms{at}"), _count(metrics, f"latency_n{at}")]
        row.append(_times(metrics, "latency", at, is_baseline=label == base))
        row.append(_estimate(metrics, f"end_to_end_ms{alone}"))
        rows.append(tuple(row))
    sentences = (
        f"Median and 95th percentile of {_samples(content['data'], first[0])} answered at once on {_threads(first[1])}; in brackets 95 % "
        "intervals, of times over rounds, of accuracy over test groups.",
        *accuracy_notes(content["data"]),
        "Difference: to the model that it is compared with, in percentage points, paired on the same "
        f"{_samples(content['data'], 1).split()[1]}s. Ratio: how many times that model's time, median over rounds of the ratio within a "
        "round. A click on a head sorts.",
    )
    caption = " ".join(sentences)
    return Table(title="Speed and accuracy", columns=tuple(columns), rows=tuple(rows), caption=caption, sorts=True)


def _times(metrics: Metrics, name: str, at: str, *, is_baseline: bool) -> Estimate | None:
    """The ratio to the baseline; that of the baseline itself is one where it was measured."""
    if is_baseline and f"{name}_ms{at}" in metrics:
        return Estimate(value=1.0, percent=False)
    return _estimate(metrics, f"{name}_ratio{at}")


def _at(batch: int, threads: int) -> str:
    return f"@b{batch}t{threads}"


def _samples(data: Mapping[str, Any], count: int) -> str:
    noun = "clip" if data["kind"] == "classifier" else "frame"
    return f"{count} {noun}{'s' * (count > 1)}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _sizes(methods: Mapping[str, Metrics], data: Mapping[str, Any]) -> Table:
    columns = ("model", "parameters", "MACs (M)", "MACs by torch (M)", "file (MiB)", "cold start (s)", "first answer (s)", "memory (MiB)")
    gpu = any("gpu_memory_mib" in metrics for metrics in methods.values())
    rows = []
    for label, metrics in methods.items():
        row: list[TableCell] = [label, _count(metrics, "parameters")]
        row += [_estimate(metrics, name, scale=1e-6) for name in ("macs", "macs_torch")]
        row += [_estimate(metrics, "file_bytes", scale=1 / MIB), _estimate(metrics, "cold_start_s"), _estimate(metrics, "first_answer_s")]
        row += [_estimate(metrics, name) for name in ("memory_mib", *(["gpu_memory_mib"] if gpu else []))]
        rows.append(tuple(row))
    caption = (
        f"MACs of one {_samples(data, 1).split()[1]}, by two counters. Cold start: from the start of a new process to its first answer on "
        f"{_threads(data['cold_start_threads'])}, median of {data['cold_starts']}; memory: the most that such a process held. "
        "A dash: not known, or not measured."
    )
    return Table(
        title="Size, start and memory", columns=(*columns, *(["GPU (MiB)"] if gpu else [])), rows=tuple(rows), caption=caption, sorts=True
    )


def _conditions(methods: Mapping[str, Metrics], data: Mapping[str, Any]) -> Table:
    noun = _samples(data, 1).split()[1]
    columns = ("model", "reference", "batch", "threads", "latency (ms)", "p95", "calls", f"{noun}s a second", "ratio")
    rows = []
    for batch, threads in _all_conditions(methods):
        at = _at(batch, threads)
        for label, metrics in methods.items():
            row: list[TableCell] = [label, _against(data, label), batch, threads]
            row += [_estimate(metrics, f"latency_ms{at}"), _estimate(metrics, f"latency_p95_ms{at}")]
            row += [_count(metrics, f"latency_n{at}"), _estimate(metrics, f"throughput{at}")]
            row.append(_times(metrics, "latency", at, is_baseline=label == data["baseline"]))
            rows.append(tuple(row))
    caption = (
        f"The model only: decoded {noun}s in memory to answers in memory. {data['rounds']} rounds. Ratio: how many times the "
        "time of the model that it is compared with."
    )
    return Table(title="Batches and threads", columns=columns, rows=tuple(rows), caption=caption, sorts=True)


def _ways(methods: Mapping[str, Metrics], data: Mapping[str, Any]) -> list[Table]:
    """From file to answer, where that was measured."""
    threads = sorted({pair[1] for pair in _all_conditions(methods)})
    rows: list[tuple[TableCell, ...]] = []
    for count in threads:
        at = _at(1, count)
        for label, metrics in methods.items():
            if f"end_to_end_ms{at}" in metrics:
                row: list[TableCell] = [
                    label,
                    _against(data, label),
                    count,
                    _estimate(metrics, f"end_to_end_ms{at}"),
                    _estimate(metrics, f"end_to_end_p95_ms{at}"),
                ]
                row += [_estimate(metrics, f"end_to_end_{part}_ms{at}") for part in PARTS]
                row += [_count(metrics, f"end_to_end_n{at}"), _times(metrics, "end_to_end", at, is_baseline=label == data["baseline"])]
                rows.append(tuple(row))
    if not rows:
        return []
    noun = _samples(data, 1).split()[1]
    heads = (
        "model",
        "reference",
        "threads",
        "end to end (ms)",
        "p95",
        *(f"{words} (ms)" for words in PARTS.values()),
        "calls",
        "ratio",
    )
    caption = (
        f"One {noun} after another from its file, which the system keeps in memory: decoded, resized, with flow where the model "
        "sees it, answered. Medians of the parts do not add up to the median of the whole."
    )
    return [Table(title="From file to answer", columns=heads, rows=tuple(rows), caption=caption, sorts=True)]


def _models(data: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            label,
            model["what"],
            model["runs_on"],
            model["input"],
            model["judged_on"] or "not judged",
            "; ".join(model["notes"]) or EMPTY,
        )
        for label, model in data["models"].items()
    )
    columns = ("model", "from", "runs on", "sees", "judged on", "unknown")
    return Table(title="Models", columns=columns, rows=rows)


def _figures(methods: Mapping[str, Metrics], judged: str | None, first: tuple[int, int], judged_on: Iterable[str]) -> Iterable[Figure]:
    styles = {label: number for number, label in enumerate(methods)}
    alone = _at(1, first[1])
    costs = {
        f"latency_ms{_at(*first)}": ("latency", f"latency, batch {first[0]}, {_threads(first[1])} (ms)", 1.0),
        f"end_to_end_ms{alone}": ("end-to-end latency", f"from file to answer, {_threads(first[1])} (ms)", 1.0),
        "file_bytes": ("size", "file (MiB)", 1 / MIB),
        "macs": ("multiply-accumulates", "multiply-accumulates (M)", 1e-6),
    }
    for name, (title, words, scale) in costs.items():
        points = _points(methods, judged, name, scale)
        if judged and len(points) > 1:
            missing = [label for label in methods if judged in methods[label] and label not in {point.label for point in points}]
            caption = " ".join((*judged_on, *([f"Not known of {', '.join(missing)}."] if missing else [])))
            gain = f"{WORDS[judged]} (%)"
            yield pareto_figure(points, title=f"{WORDS[judged]} against {title}", cost=words, gain=gain, styles=styles, caption=caption)
    parts = _parts_of(methods, alone)
    if parts:
        caption = f"Medians of the parts on {_threads(first[1])}; the number is their sum."
        yield parts_figure(parts, order=PARTS.values(), title="Where the time goes", unit="ms", caption=caption)
    yield from _throughputs(methods)


def _points(methods: Mapping[str, Metrics], judged: str | None, name: str, scale: float) -> list[Point]:
    points = []
    for label, metrics in methods.items():
        cost, gain = _estimate(metrics, name, scale=scale), _estimate(metrics, judged or "")
        if cost is not None and gain is not None:
            points.append(Point(label=label, cost=cost, gain=gain))
    return points


def _parts_of(methods: Mapping[str, Metrics], at: str) -> dict[str, dict[str, float]]:
    found = {
        label: {words: metrics[name]["mean"] for part, words in PARTS.items() if (name := f"end_to_end_{part}_ms{at}") in metrics}
        for label, metrics in methods.items()
    }
    return {label: parts for label, parts in found.items() if parts}


def _throughputs(methods: Mapping[str, Metrics]) -> Iterable[Figure]:
    """A line over batch sizes for every model, a figure for each number of threads."""
    conditions = _all_conditions(methods)
    for threads in sorted({pair[1] for pair in conditions}):
        batches = [batch for batch, count in conditions if count == threads]
        if len(batches) < 2:
            continue
        series = {
            label: {float(batch): found for batch in batches if (found := _estimate(metrics, f"throughput{_at(batch, threads)}"))}
            for label, metrics in methods.items()
        }
        yield accuracy_by_condition(series, title=f"Throughput on {_threads(threads)}", condition="batch", unit="a second", evenly=True)


def _notes(content: Mapping[str, Any]) -> dict[str, str]:
    data, environment = content["data"], content["environment"]
    shown = f"{data['name']}, {data['subset']}" if data["subset"] else "noise: speed only"
    notes = {"baseline": data["baseline"], "shown": shown, "rounds": str(data["rounds"]), "time": duration(content["seconds"])}
    if data.get("interrupted"):
        notes["rounds"] += ": interrupted, so fewer than asked for, or fewer cold starts"
    cores, load = environment.get("cores of this process"), environment.get("load before", "")
    notes |= {"processor": environment.get("processor", "unknown"), "cores": str(cores)}
    if cores and re.fullmatch(r"[\d.]+", load) and float(load) > BUSY * int(cores):
        notes["others at work"] = f"load {format_number(float(load))} before the first call: times are noisy, ratios less so"
    if "TF32" in environment:
        notes["TF32"] = environment["TF32"]
    return notes
