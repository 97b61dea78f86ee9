"""The report of a benchmark, from its summary: tables that sort, accuracy against what it costs, and where the time goes."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from vidkd.base.progress import duration
from vidkd.bench.speed.compare import check_is_benchmark, held_against
from vidkd.report.figures import accuracy_by_condition
from vidkd.report.pareto import Point, pareto_figure, parts_figure
from vidkd.report.parts import Estimate, Figure, Report, Table, TableCell, format_number, is_share

MIB = 2**20
WORDS = {"top1": "top-1", "ap50": "AP50", "recall50": "recall"}
"""Main metrics."""
PARTS = {"decode": "decoding, resizing", "flow": "optical flow", "model": "model"}
BUSY = 0.3
"""Load of each core before a benchmark from which on its report says that others were at work."""
EMPTY = "\N{EN DASH}"
_CONDITION = re.compile(r"latency_ms@b(\d+)t(\d+)")
Metrics: TypeAlias = Mapping[str, Any]
Column: TypeAlias = Callable[[str, Metrics], TableCell]
"""A cell of the row of a model, by its label and metrics."""


def benchmark_report(summary: Mapping[str, Any], *, command: str = "") -> Report:
    """Tables and figures of a benchmark's summary.

    Raises DataError for a summary that does not follow the schema, or is of no benchmark.
    """
    content = summary
    check_is_benchmark(content)
    data, methods = content["data"], {name: method["metrics"] for name, method in content["methods"].items()}
    judged = next((name for name in WORDS if any(name in metrics for metrics in methods.values())), None)
    others = {held_against(data, label) for label in methods} - {None, data["baseline"]}
    compared = f"compared with {data['baseline']}, or what the tables name instead" if others else f"all compared with {data['baseline']}"
    return Report(
        title=str(data["benchmark"]).replace("_", " "),
        subtitle=f"Speed against accuracy of {len(methods)} models, {compared}.",
        command=command,
        config_text=str(data.get("config", "")),
        tables=tuple(_tables(methods, content, judged)),
        figures=tuple(_figures(methods, judged, accuracy_notes(data))),
        notes=_notes(content),
        environment={str(name): str(value) for name, value in content["environment"].items()},
    )


def accuracy_notes(data: Mapping[str, Any]) -> list[str]:
    """Sentences that belong to every accuracy of classifiers: one window of each clip, and means over observed fractions."""
    judged = [model["judged_on"] for model in data["models"].values() if model["judged_on"]]
    notes = ["Accuracy is that of one window and one crop of each clip, as it is timed."] if judged and data["kind"] == "classifier" else []
    by_fractions: dict[tuple[float, ...], list[str]] = {}
    for label, model in data["models"].items():
        by_fractions.setdefault(tuple(model.get("fractions") or ()), []).append(label)
    for fractions, labels in by_fractions.items():
        shares = [f"{100 * each:g}" for each in fractions]
        if shares:
            words = f"the mean over {', '.join(shares)} % of a clip; the answer at {shares[-1]} % is timed."
            notes.append(f"Accuracy of {', '.join(labels)} is {words}")
    return notes


def _conditions(methods: Mapping[str, Metrics]) -> list[tuple[int, int]]:
    """(Batch, threads), fewest threads first, then the smallest batch."""
    names = {name for metrics in methods.values() for name in metrics}
    found = {(int(match[1]), int(match[2])) for name in names if (match := _CONDITION.fullmatch(name))}
    return sorted(found, key=lambda pair: pair[::-1])


def _estimate(metrics: Metrics, name: str, scale: float = 1.0) -> Estimate | None:
    row = metrics.get(name)
    if row is None:
        return None
    bounds = None if row["ci95"] is None else (row["ci95"][0] * scale, row["ci95"][1] * scale)
    return Estimate(value=row["mean"] * scale, ci95=bounds, percent=is_share(name))


def _column(name: str, scale: float = 1.0) -> Column:
    """A figure with its interval."""
    return lambda _, metrics: _estimate(metrics, name, scale)


def _number(name: str, kind: Callable[[float], int | float] = float) -> Column:
    """A figure alone."""
    return lambda _, metrics: kind(metrics[name]["mean"]) if name in metrics else None


def _rows(methods: Mapping[str, Metrics], columns: Mapping[str, Column]) -> list[tuple[TableCell, ...]]:
    return [tuple(cell(label, metrics) for cell in columns.values()) for label, metrics in methods.items()]


def _tables(methods: Mapping[str, Metrics], content: Mapping[str, Any], judged: str | None) -> Iterable[Table]:
    """The overview; sizes; latency under every condition; the way from the file; and what the models are."""
    data, conditions = content["data"], _conditions(methods)
    (first_batch, first_threads), noun = conditions[0], "clip" if data["kind"] == "classifier" else "frame"
    pairs = {pair["method"]: pair for pair in content["paired"]}
    heads: dict[str, Column] = {
        "model": lambda label, _: label,
        "reference": lambda label, _: held_against(data, label) or EMPTY,
    }

    def latency(batch: int, threads: int) -> dict[str, Column]:
        at = f"@b{batch}t{threads}"
        found = {"latency (ms)": _column(f"latency_ms{at}"), "p95": _number(f"latency_p95_ms{at}")}
        return {**found, "calls": _number(f"latency_n{at}", round), "ratio": ratio("latency", at)}

    def ratio(name: str, at: str) -> Column:
        """That of the baseline itself is one where it was measured."""
        return lambda label, metrics: (
            Estimate(value=1.0, percent=False)
            if label == data["baseline"] and f"{name}_ms{at}" in metrics
            else _estimate(metrics, f"{name}_ratio{at}")
        )

    def table(title: str, columns: Mapping[str, Column], rows: Iterable[tuple[TableCell, ...]], caption: str) -> Table:
        return Table(title=title, columns=tuple(columns), rows=tuple(rows), caption=caption, sorts=True)

    accuracy: dict[str, Column] = {}
    if judged:
        accuracy = {f"{WORDS[judged]} (%)": _column(judged), "difference": lambda label, _: Estimate.of_pair(pairs.get(label))}
    columns = {**heads, **accuracy, **latency(first_batch, first_threads)}
    columns["end to end (ms)"] = _column(f"end_to_end_ms@b1t{first_threads}")
    caption = " ".join(
        (
            f"Median and 95th percentile of {first_batch} {noun}{'s' * (first_batch > 1)} answered at once on {_threads(first_threads)}; "
            "in brackets 95 % intervals, of times over rounds, of accuracy over test groups.",
            *accuracy_notes(data),
            "Difference: to the model that it is compared with, in percentage points, paired on the same "
            f"{noun}s. Ratio: how many times that model's time, median over rounds of the ratio within a round. A click on a head sorts.",
        )
    )
    yield table("Speed and accuracy", columns, _rows(methods, columns), caption)

    columns = {
        "model": heads["model"],
        "parameters": _number("parameters", round),
        "MACs (M)": _column("macs", 1e-6),
        "MACs by torch (M)": _column("macs_torch", 1e-6),
        "file (MiB)": _column("file_bytes", 1 / MIB),
        "cold start (s)": _column("cold_start_s"),
        "first answer (s)": _column("first_answer_s"),
        "memory (MiB)": _column("memory_mib"),
    }
    if any("gpu_memory_mib" in metrics for metrics in methods.values()):
        columns["GPU (MiB)"] = _column("gpu_memory_mib")
    caption = (
        f"MACs of one {noun}, by two counters. Cold start: from the start of a new process to its first answer on "
        f"{_threads(data['cold_start_threads'])}, median of {data['cold_starts']}; memory: the most that such a process held. "
        "A dash: not known, or not measured."
    )
    yield table("Size, start and memory", columns, _rows(methods, columns), caption)

    rows: list[tuple[TableCell, ...]] = []
    for batch, threads in conditions:
        at: dict[str, Column] = {"batch": _always(batch), "threads": _always(threads)}
        columns = {**heads, **at, **latency(batch, threads), f"{noun}s a second": _column(f"throughput@b{batch}t{threads}")}
        rows += _rows(methods, columns)
    caption = (
        f"The model only: decoded {noun}s in memory to answers in memory. {data['rounds']} rounds. Ratio: how many times the "
        "time of the model that it is compared with."
    )
    yield table("Batches and threads", columns, rows, caption)

    rows = []
    for threads in sorted({pair[1] for pair in conditions}):
        at_one = f"@b1t{threads}"
        whole = {"end to end (ms)": _column(f"end_to_end_ms{at_one}"), "p95": _number(f"end_to_end_p95_ms{at_one}")}
        parts = {f"{words} (ms)": _column(f"end_to_end_{part}_ms{at_one}") for part, words in PARTS.items()}
        columns = {**heads, "threads": _always(threads), **whole, **parts}
        columns |= {"calls": _number(f"end_to_end_n{at_one}", round), "ratio": ratio("end_to_end", at_one)}
        rows += _rows({label: metrics for label, metrics in methods.items() if f"end_to_end_ms{at_one}" in metrics}, columns)
    caption = (
        f"One {noun} after another from its file, which the system keeps in memory: decoded, resized, with flow where the model "
        "sees it, answered. Medians of the parts do not add up to the median of the whole."
    )
    if rows:
        yield table("From file to answer", columns, rows, caption)
    facts = [
        (label, each["what"], each["runs_on"], each["input"], each["judged_on"] or "not judged", "; ".join(each["notes"]) or EMPTY)
        for label, each in data["models"].items()
    ]
    yield Table(title="Models", columns=("model", "from", "runs on", "sees", "judged on", "unknown"), rows=tuple(facts))


def _always(value: int) -> Column:
    return lambda *_: value


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _figures(methods: Mapping[str, Metrics], judged: str | None, judged_on: Iterable[str]) -> Iterable[Figure]:
    """Accuracy against each cost, the parts of the way from the file, and a line over batch sizes for each number of threads."""
    conditions = _conditions(methods)
    (batch, threads), styles = conditions[0], {label: number for number, label in enumerate(methods)}
    costs = {
        f"latency_ms@b{batch}t{threads}": ("latency", f"latency, batch {batch}, {_threads(threads)} (ms)", 1.0),
        f"end_to_end_ms@b1t{threads}": ("end-to-end latency", f"from file to answer, {_threads(threads)} (ms)", 1.0),
        "file_bytes": ("size", "file (MiB)", 1 / MIB),
        "macs": ("multiply-accumulates", "multiply-accumulates (M)", 1e-6),
    }
    gains = {label: gain for label, metrics in methods.items() if (gain := _estimate(metrics, judged or "")) is not None}
    for name, (title, words, scale) in costs.items():
        known = {label: cost for label in gains if (cost := _estimate(methods[label], name, scale)) is not None}
        if len(known) > 1:
            missing = [label for label in gains if label not in known]
            caption = " ".join((*judged_on, *([f"Not known of {', '.join(missing)}."] if missing else [])))
            metric = WORDS[str(judged)]
            points = [Point(label=label, cost=cost, gain=gains[label]) for label, cost in known.items()]
            title = f"{metric} against {title}"
            yield pareto_figure(points, title=title, cost=words, gain=f"{metric} (%)", styles=styles, caption=caption)
    ways = {
        label: {words: metrics[name]["mean"] for part, words in PARTS.items() if (name := f"end_to_end_{part}_ms@b1t{threads}") in metrics}
        for label, metrics in methods.items()
    }
    if any(ways.values()):
        caption = f"Medians of the parts on {_threads(threads)}; the number is their sum."
        ways = {label: parts for label, parts in ways.items() if parts}
        yield parts_figure(ways, order=PARTS.values(), title="Where the time goes", unit="ms", caption=caption)
    for count in sorted({pair[1] for pair in conditions}):
        batches = [each for each, of in conditions if of == count]
        series = {
            label: {float(each): found for each in batches if (found := _estimate(metrics, f"throughput@b{each}t{count}"))}
            for label, metrics in methods.items()
        }
        if len(batches) > 1:
            yield accuracy_by_condition(series, title=f"Throughput on {_threads(count)}", condition="batch", unit="a second", evenly=True)


def _notes(content: Mapping[str, Any]) -> dict[str, str]:
    data, environment = content["data"], content["environment"]
    shown = f"{data['name']}, {data['subset']}" if data["subset"] else "noise: speed only"
    rounds = f"{data['rounds']}{': interrupted, so fewer than asked for, or fewer cold starts' if data.get('interrupted') else ''}"
    cores, load = environment.get("cores of this process"), environment.get("load before", "")
    notes = {"baseline": data["baseline"], "shown": shown, "rounds": rounds, "time": duration(content["seconds"])}
    notes |= {"processor": environment.get("processor", "unknown"), "cores": str(cores)}
    if cores and re.fullmatch(r"[\d.]+", load) and float(load) > BUSY * int(cores):
        notes["others at work"] = f"load {format_number(float(load))} before the first call: times are noisy, ratios less so"
    return notes
