"""Pages of benchmarks: tables and figures of speed against accuracy (HTML), and of the performance suite (Markdown)."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from vidkd.base.progress import duration
from vidkd.bench.speed.compare import check_is_benchmark, held_against
from vidkd.report.figures import INK, MUTED, SERIES, accuracy_by_condition, bare_rows, canvas, finish, legend_above, short
from vidkd.report.page import table_markdown
from vidkd.report.parts import Estimate, Figure, Report, Table, TableCell, format_number, is_share

MIB = 2**20
SCALES = {"macs": 1e-6, "macs_torch": 1e-6, "file_bytes": 1 / MIB}
"""Factors of metrics that are shown in other units than they are stored."""
WORDS = {"top1": "top-1", "ap50": "AP50", "recall50": "recall"}
"""Main metrics."""
PARTS = {"decode": "decoding, resizing", "flow": "optical flow", "model": "model"}
BUSY = 0.3
"""Load of each core before a benchmark from which on its report says that others were at work."""
EMPTY = "\N{EN DASH}"
MARKERS = "os^DvP*X<>"
WIDE_RANGE = 20
"""Costs that lie further apart than so many times are drawn on a logarithmic axis."""
_CONDITION = re.compile(r"latency_ms@b(\d+)t(\d+)")
Metrics: TypeAlias = Mapping[str, Any]


def benchmark_report(summary: Mapping[str, Any], *, command: str = "") -> Report:
    """Tables and figures of a benchmark's summary.

    Raises DataError for a summary that does not follow the schema, or is of no benchmark.
    """
    check_is_benchmark(summary)
    data, methods = summary["data"], {name: method["metrics"] for name, method in summary["methods"].items()}
    judged = next((name for name in WORDS if any(name in metrics for metrics in methods.values())), None)
    others = {held_against(data, label) for label in methods} - {None, data["baseline"]}
    compared = f"compared with {data['baseline']}, or what the tables name instead" if others else f"all compared with {data['baseline']}"
    return Report(
        title=str(data["benchmark"]).replace("_", " "),
        subtitle=f"Speed against accuracy of {len(methods)} models, {compared}.",
        command=command,
        config_text=str(data.get("config", "")),
        tables=tuple(_tables(methods, summary, judged)),
        figures=tuple(_figures(methods, judged, accuracy_notes(data))),
        notes=_notes(summary),
        environment={str(name): str(value) for name, value in summary["environment"].items()},
    )


def accuracy_notes(data: Mapping[str, Any]) -> list[str]:
    """Sentences that belong to every accuracy of classifiers: one window of each clip, and means over observed fractions."""
    judged = [model["judged_on"] for model in data["models"].values() if model["judged_on"]]
    notes = (
        ["Accuracy is that of one window and one crop of each clip, the same that are timed."]
        if judged and data["kind"] == "classifier"
        else []
    )
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


def _estimate(metrics: Metrics, name: str) -> Estimate | None:
    """A metric with its interval, in the unit that is shown."""
    if name not in metrics:
        return None
    row, scale = metrics[name], SCALES.get(name, 1.0)
    bounds = None if row["ci95"] is None else (row["ci95"][0] * scale, row["ci95"][1] * scale)
    return Estimate(value=row["mean"] * scale, ci95=bounds, percent=is_share(name))


def _tables(methods: Mapping[str, Metrics], summary: Mapping[str, Any], judged: str | None) -> Iterator[Table]:
    """The overview; sizes; latency under every condition; the way from the file; and what the models are."""
    data, conditions = summary["data"], _conditions(methods)
    (first_batch, first_threads), noun = conditions[0], "clip" if data["kind"] == "classifier" else "frame"
    pairs = {pair["method"]: pair for pair in summary["paired"]}

    def cell(label: str, name: str) -> Estimate | None:
        """A metric of a model; the ratio of the baseline to itself is one where it was measured."""
        if name == "difference":
            return Estimate.of_pair(pairs.get(label))
        if label == data["baseline"] and name.replace("_ratio@", "_ms@") in methods[label].keys() - {name}:
            return Estimate(value=1.0, percent=False)
        return _estimate(methods[label], name)

    def rows(names: Iterable[str], *own: TableCell, needs: str = "") -> list[tuple[TableCell, ...]]:
        """For every model that has the metric `needs`: its label, what it is compared with, cells of its own, and these metrics."""
        having = [label for label, metrics in methods.items() if not needs or needs in metrics]
        return [(label, held_against(data, label) or EMPTY, *own, *(cell(label, name) for name in names)) for label in having]

    def latency(batch: int, threads: int) -> dict[str, str]:
        kinds = {"latency (ms)": "ms", "p95": "p95_ms", "calls": "n", "ratio": "ratio"}
        return {head: f"latency_{kind}@b{batch}t{threads}" for head, kind in kinds.items()}

    accuracy = {f"{WORDS[judged]} (%)": judged, "difference": "difference"} if judged else {}
    columns = {**accuracy, **latency(first_batch, first_threads), "end to end (ms)": f"end_to_end_ms@b1t{first_threads}"}
    caption = " ".join(
        (
            f"Median and 95th percentile of {first_batch} {noun}{'s' * (first_batch > 1)} answered at once on {_threads(first_threads)}; "
            "in brackets 95 % intervals, of times over rounds, of accuracy over test groups.",
            *accuracy_notes(data),
            "Difference: to the model that it is compared with, in percentage points, paired on the same "
            f"{noun}s. Ratio: how many times that model's time, median over rounds of the ratio within a round.",
        )
    )
    yield Table(title="Speed and accuracy", columns=("model", "reference", *columns), rows=tuple(rows(columns.values())), caption=caption)

    columns = {"parameters": "parameters", "MACs (M)": "macs", "MACs by torch (M)": "macs_torch", "file (MiB)": "file_bytes"}
    columns |= {"cold start (s)": "cold_start_s", "first answer (s)": "first_answer_s", "memory (MiB)": "memory_mib"}
    if any("gpu_memory_mib" in metrics for metrics in methods.values()):
        columns["GPU (MiB)"] = "gpu_memory_mib"
    caption = (
        f"MACs of one {noun}, by two counters. Cold start: from the start of a new process to its first answer on "
        f"{_threads(data['cold_start_threads'])}, median of {data['cold_starts']}; memory: the most that such a process held. "
        "A dash: not known, or not measured."
    )
    sizes = tuple((row[0], *row[2:]) for row in rows(columns.values()))
    yield Table(title="Size, start and memory", columns=("model", *columns), rows=sizes, caption=caption)

    found, heads = [], ("model", "reference", "batch", "threads", *latency(0, 0), f"{noun}s a second")
    for batch, threads in conditions:
        found += rows([*latency(batch, threads).values(), f"throughput@b{batch}t{threads}"], batch, threads)
    caption = (
        f"The model only: decoded {noun}s in memory to answers in memory. {data['rounds']} rounds. Ratio: how many times the "
        "time of the model that it is compared with."
    )
    yield Table(title="Batches and threads", columns=heads, rows=tuple(found), caption=caption)

    found, kinds = [], {"end to end (ms)": "ms", "p95": "p95_ms", **{f"{words} (ms)": f"{part}_ms" for part, words in PARTS.items()}}
    kinds |= {"calls": "n", "ratio": "ratio"}
    for threads in sorted({pair[1] for pair in conditions}):
        names = [f"end_to_end_{kind}@b1t{threads}" for kind in kinds.values()]
        found += rows(names, threads, needs=names[0])
    caption = (
        f"One {noun} after another from its file, which the system keeps in memory: decoded, resized, with flow where the model "
        "sees it, answered. Medians of the parts do not add up to the median of the whole."
    )
    if found:
        yield Table(title="From file to answer", columns=("model", "reference", "threads", *kinds), rows=tuple(found), caption=caption)
    facts = [
        (label, each["what"], each["runs_on"], each["input"], each["judged_on"] or "not judged", "; ".join(each["notes"]) or EMPTY)
        for label, each in data["models"].items()
    ]
    yield Table(title="Models", columns=("model", "from", "runs on", "sees", "judged on", "unknown"), rows=tuple(facts))


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _figures(methods: Mapping[str, Metrics], judged: str | None, judged_on: Sequence[str]) -> Iterator[Figure]:
    """Accuracy against each cost, the parts of the way from the file, and a line over batch sizes for each number of threads."""
    conditions = _conditions(methods)
    batch, threads = conditions[0]
    costs = {
        f"latency_ms@b{batch}t{threads}": ("latency", f"latency, batch {batch}, {_threads(threads)} (ms)"),
        f"end_to_end_ms@b1t{threads}": ("end-to-end latency", f"from file to answer, {_threads(threads)} (ms)"),
        "file_bytes": ("size", "file (MiB)"),
        "macs": ("multiply-accumulates", "multiply-accumulates (M)"),
    }
    gains = {label: gain for label, metrics in methods.items() if (gain := _estimate(metrics, judged or "")) is not None}
    for name, (title, words) in costs.items():
        known = {label: cost for label in gains if (cost := _estimate(methods[label], name)) is not None}
        if len(known) > 1:
            missing = [label for label in gains if label not in known]
            caption = " ".join((*judged_on, *([f"Not known of {', '.join(missing)}."] if missing else [])))
            metric = WORDS[str(judged)]
            points = [Point(label=label, cost=cost, gain=gains[label]) for label, cost in known.items()]
            title = f"{metric} against {title}"
            yield pareto_figure(points, title=title, cost=words, gain=f"{metric} (%)", order=list(methods), caption=caption)
    ways = {
        label: {words: metrics[name]["mean"] for part, words in PARTS.items() if (name := f"end_to_end_{part}_ms@b1t{threads}") in metrics}
        for label, metrics in methods.items()
    }
    if any(ways.values()):
        caption = f"Medians of the parts on {_threads(threads)}; the number is their sum."
        yield parts_figure(
            {label: parts for label, parts in ways.items() if parts}, title="Where the time goes", unit="ms", caption=caption
        )
    for count in sorted({pair[1] for pair in conditions}):
        batches = [each for each, of in conditions if of == count]
        series = {
            label: {float(each): found for each in batches if (found := _estimate(metrics, f"throughput@b{each}t{count}"))}
            for label, metrics in methods.items()
        }
        if len(batches) > 1:
            yield accuracy_by_condition(series, title=f"Throughput on {_threads(count)}", condition="batch", unit="a second", evenly=True)


def _notes(summary: Mapping[str, Any]) -> dict[str, str]:
    data, environment = summary["data"], summary["environment"]
    shown = f"{data['name']}, {data['subset']}" if data["subset"] else "noise: speed only"
    rounds = f"{data['rounds']}{': interrupted, so fewer than asked for, or fewer cold starts' if data.get('interrupted') else ''}"
    cores, load = environment.get("cores of this process"), environment.get("load before", "")
    notes = {"baseline": data["baseline"], "shown": shown, "rounds": rounds, "time": duration(summary["seconds"])}
    notes |= {"processor": environment.get("processor", "unknown"), "cores": str(cores)}
    if cores and re.fullmatch(r"[\d.]+", load) and float(load) > BUSY * int(cores):
        notes["others at work"] = f"load {format_number(float(load))} before the first call: times are noisy, ratios less so"
    return notes


@dataclass(frozen=True, kw_only=True)
class Point:
    """A model: what it costs, of which less is better, and what it gains, of which more is."""

    label: str
    cost: Estimate
    gain: Estimate


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats: none costs at most as much and gains at least as much, and one of the two is better. Rising cost."""
    points = list(points)

    def beats(one: Point, other: Point) -> bool:
        cost, gain = one.cost.value - other.cost.value, one.gain.value - other.gain.value
        return cost <= 0 <= gain and (cost, gain) != (0, 0)

    left = [point for point in points if not any(beats(other, point) for other in points)]
    return sorted(left, key=lambda point: (point.cost.value, point.gain.value))


def pareto_figure(points: Sequence[Point], *, title: str, cost: str, gain: str, order: Sequence[str], caption: str = "") -> Figure:
    """A point with its intervals for every model, and the front as a line. Gains are shares.

    cost, gain: words of the axes, with units. order: of all models of a page, so that each has one colour and marker in all figures.
    """
    with canvas(3.5) as (drawing, axes):
        upon: dict[tuple[Estimate, Estimate], list[Point]] = {}
        for point in points:  # those at one place are one, with all their names
            upon.setdefault((point.cost, point.gain), []).append(point)
        for place in upon.values():
            style, at, height = order.index(place[0].label), place[0].cost, place[0].gain
            colour, marker = SERIES[style % len(SERIES)], MARKERS[style // len(SERIES) % len(MARKERS)]
            spans = {"xerr": at, "yerr": height}
            bars = {side: np.abs(np.subtract(each.ci95, each.value))[:, None] for side, each in spans.items() if each.ci95 is not None}
            bars = {side: span * (100 if side == "yerr" else 1) for side, span in bars.items()}
            names = short(", ".join(point.label for point in place))
            axes.errorbar(at.value, 100 * height.value, fmt=marker, color=colour, ms=7, alpha=0.8, elinewidth=1.3, label=names, **bars)
        front = pareto_front(points)
        steps = np.array([(each.cost.value, 100 * each.gain.value) for each in front])
        axes.plot(*steps.T, color=MUTED, lw=1.2, ls="--", zorder=1, drawstyle="steps-post")
        costs = [point.cost.value for point in points if point.cost.value > 0]
        if costs and max(costs) > WIDE_RANGE * min(costs):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: format_number(value))  # mathematical text is not parsed
            axes.xaxis.set_minor_formatter(lambda *_: "")
        axes.set(xlabel=cost, ylabel=gain)
        axes.margins(0.08)
        legend_above(drawing, len(points))
        words = f"On the front, which none beats in both: {', '.join(each.label for each in front)}. Lines are 95 % intervals."
        return finish(drawing, title, caption=f"{words} {caption}".strip())


def parts_figure(parts: Mapping[str, Mapping[str, float]], *, title: str, unit: str, caption: str = "") -> Figure:
    """A bar for every model, of its parts in the order of PARTS one behind the other, with their sum at its end.

    parts: model -> part -> how much.
    """
    names = [name for name in PARTS.values() if any(name in of_model for of_model in parts.values())]
    with canvas(0.9 + 0.36 * max(len(parts), 2)) as (drawing, axes):
        ends = np.zeros(len(parts))
        for index, name in enumerate(names):
            widths = np.array([of_model.get(name, 0.0) for of_model in parts.values()])
            bars = axes.barh(range(len(parts)), widths, left=ends, height=0.55, color=SERIES[index], label=name, alpha=0.85)
            ends += widths
        axes.bar_label(bars, [format_number(float(end)) for end in ends], padding=5, color=INK)
        bare_rows(axes, [short(label) for label in parts])
        axes.set(xlim=(0, 1.15 * max(ends.max(), 1e-9)), xlabel=unit)
        legend_above(drawing, len(names))
        return finish(drawing, title, caption=caption)


HEAD = """# Performance

Generated by `{command}`. Alternatives take turns in rounds (A B C, C B A, ...), so that other load on the machine
affects all of them. A number is the median of the rounds with its range; a ratio is the median of the ratios within each
round. Videos: {videos}.

Measured with {environment}. The whole took {seconds:.0f} s.
"""


def performance_page(results: Mapping[str, Any]) -> str:
    """The page of a performance suite, in Markdown, from its results file."""
    environment = results["environment"]
    facts = [f"{name} {environment[name]}" for name in environment if name not in ("platform", "threads")]  # threads: of each part
    text = HEAD.format(command=results["command"], videos=results["videos"], environment=", ".join(facts), seconds=results["seconds"])
    for part in results["parts"].values():
        settings = "; ".join(f"{name}: {value}" for name, value in part["settings"].items())
        tables = [_measured(kind, part[key]) for kind, key in (("ratio", "ratios"), ("measured", "values")) if part[key]]
        notes = [f"{note}\n" for note in part["notes"]]
        text += "\n".join([f"\n## {part['title']}\n", f"{part['text']}\n", f"{settings}.\n", *tables, *notes])
    return text


def _measured(kind: str, rows: Iterable[Mapping[str, Any]]) -> str:
    cells = []
    for row in rows:
        found = f"{number(row['median'])} {row.get('unit', '')}".strip()
        span = "" if row["n"] == 1 and row.get("unit") else f"{number(row['min'])} to {number(row['max'])}"
        target = f"{row['target']}: {'met' if row['met'] else '**missed**'}" if "target" in row else ""
        cells.append((row["name"], found, span, str(row["n"]), target))
    return table_markdown(Table(title="", columns=(kind, "median", "range", "n", "target"), rows=tuple(cells)))


def number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
