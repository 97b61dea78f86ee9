"""Two runs of a benchmark held against each other: which figures differ by more than their intervals tell, and which got worse.

Times are compared by the intervals of both runs; accuracies on the same clips or frames in pairs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench.speed.config import BenchmarkConfig
from vidkd.bench.speed.kept import ONE_WINDOW, Moved, moved_between, short_moved
from vidkd.bench.speed.machine import other_libraries, same_machine

Verdict = Literal["same", "better", "worse", "unknown", "gone", "new"]

COSTS = ("latency", "throughput", "end_to_end", "cold_start", "first_answer", "memory", "gpu_memory", "parameters", "macs", "file_bytes")
"""What the name of every figure begins with that is no accuracy."""
ERRORS = ("ece", "nll")
"""What the name of an accuracy ends with of which less is better."""
EXACT = ("parameters", "macs", "macs_torch", "file_bytes")
COUNTS = ("latency_n", "end_to_end_n")
"""How often something was measured: neither better nor worse."""
ABSOLUTE = ("latency_ms", "latency_p95_ms", "throughput", "end_to_end_ms", "end_to_end_p95_ms", "cold_start_s", "cold_start_ready_s")
ABSOLUTE_PARTS = ("end_to_end_decode_ms", "end_to_end_flow_ms", "end_to_end_model_ms", "first_answer_s")
"""Figures of a machine, which say nothing beside those of another one."""
JUDGED_ON = ("split", "subset")
"""What part of a data set was judged, as `data` of a summary tells it."""
EPSILON = 1e-9
"""What a difference of two numbers is off by."""
UNTOLD = 0.005
"""Share by which a figure without an interval may differ: memory of a process is never the same to the byte."""
UNPAIRED = 0.01
"""By how much an accuracy may differ where a run has not kept what it takes to compare in pairs."""
Bounds = tuple[float, float]
Value = tuple[float, Bounds | None]
Measured = Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure in two runs. before, after: value and interval (None where it is exact or unknown). moved: its difference in pairs."""

    model: str
    metric: str
    before: Value | None
    after: Value | None
    verdict: Verdict
    moved: Moved | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether it moved the wrong way, and nothing tells whether by chance."""
        if self.verdict != "unknown" or self.before is None or self.after is None:
            return False
        return (self.after[0] < self.before[0]) == is_better_higher(self.metric)

    def __str__(self) -> str:
        bounds = "" if self.moved is None or self.moved.ci95 is None else _interval(self.moved.ci95, "+.4g")
        paired = f" (in pairs{bounds})" if bounds else ""
        doubt = ": it moved the wrong way, and without an interval nothing tells whether by chance" if self.is_doubtful else ""
        return f"{self.model}  {self.metric}  {_words(self.before)} -> {_words(self.after)}{paired}  {self.verdict}{doubt}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All figures of two runs. same_machine: seconds were compared; on unlike machines ratios alone are. notes: what limits the rest."""

    changes: tuple[Change, ...]
    same_machine: bool
    notes: tuple[str, ...] = ()

    def of(self, *verdicts: Verdict) -> list[Change]:
        """Those with one of these verdicts."""
        return [change for change in self.changes if change.verdict in verdicts]

    @property
    def regressions(self) -> list[Change]:
        """What is worse or gone, and what moved the wrong way without an interval that tells whether by chance."""
        return [change for change in self.changes if change.verdict in ("worse", "gone") or change.is_doubtful]


def compare(
    first: Mapping[str, Any], second: Mapping[str, Any], *, tolerance: float = 0.0, measurements: tuple[Measured, Measured] = (None, None)
) -> Comparison:
    """Every figure of two summaries, `second` as held against `first`.

    A time differs if the two 95 % intervals do not meet; an exact figure, as the number of parameters, if it is another number; an accuracy
    if the interval of its difference on the same clips or frames leaves out zero. measurements: of both runs (`read_measurements`), which
    tell that difference; of the main metric the summaries do too. An accuracy of which nothing tells it differs by more than UNPAIRED. Of
    what has no interval nobody can say: `unknown`, unless it is equal (a time or size within UNTOLD). tolerance: share of the first value
    by which a figure may differ on top of that. A figure or model that only one run has is `gone` or `new`.
    Raises DataError for summaries of no benchmark, and as `check_alike`.
    """
    for summary in (first, second):
        check_is_benchmark(summary)
    check_alike(first["data"], second["data"])
    machine = same_machine(first["environment"], second["environment"])
    changes = tuple(_changes(first, second, machine, tolerance, measurements))
    return Comparison(changes=changes, same_machine=machine, notes=tuple(_notes(first, second, changes)))


def check_is_benchmark(summary: Mapping[str, Any]) -> None:
    """Raise DataError for a summary of something else, of a study or a recipe."""
    if not isinstance(summary["data"], Mapping) or "baseline" not in summary["data"]:
        raise DataError(f"the summary of a study, not of a benchmark: {summary['study']}", to_mend="vidkd benchmark writes one")


def held_against(data: Mapping[str, Any], model: str) -> str | None:
    """The label of the model that the ratios and the difference of `model` are to; None for the baseline. data: of a summary."""
    if model == data["baseline"]:
        return None
    return str(data.get("models", {}).get(model, {}).get("against") or data["baseline"])


def judged_on_one_window(data: Mapping[str, Any]) -> bool:
    """Whether all classifiers of a summary were judged on one window and crop of a clip. data: of the summary."""
    told = [model["judged_on"] for model in data["models"].values() if model["judged_on"]]
    return bool(told) and data["kind"] == "classifier" and all(ONE_WINDOW in words for words in told)


def judged_at_fractions(data: Mapping[str, Any]) -> list[str]:
    """A sentence for each list of observed shares over which accuracies are means, with the models whose they are. data: of a summary."""
    by_fractions: dict[tuple[float, ...], list[str]] = {}
    for label, model in data["models"].items():
        if fractions := tuple(model.get("fractions") or ()):
            by_fractions.setdefault(fractions, []).append(label)
    return [
        f"Accuracy of {', '.join(labels)} is the mean over the answers at {', '.join(f'{100 * each:g}' for each in fractions)} % of a clip;"
        f" one answer is timed, at {100 * fractions[-1]:g} %."
        for fractions, labels in by_fractions.items()
    ]


def asked_for(config: BenchmarkConfig) -> dict[str, Any]:
    """What `check_alike` compares, as far as a benchmark tells it before anything is measured."""
    return {
        "baseline": config.base,
        "models": {label: {"against": config.against(label)} for label in config.models},
        **{name: getattr(config.data, name, None) for name in JUDGED_ON},
    }


def check_alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Raise DataError for unlike baselines, a model held against unlike others, or unlike splits, subsets, clips or frames.

    first, second: the data of two summaries; what one of them does not say is not compared.
    """
    names = [str(data["baseline"]) for data in (first, second)]
    if names[0] != names[1]:
        raise DataError("the two benchmarks have unlike baselines", first=names[0], second=names[1])
    for model in first.get("models", {}):
        others = [held_against(data, model) for data in (first, second)]
        if model in second.get("models", {}) and others[0] != others[1]:
            raise DataError(f"the two benchmarks hold '{model}' against unlike models", first=others[0], second=others[1])
    for name in JUDGED_ON:
        parts = [data.get(name) for data in (first, second)]
        if None not in parts and parts[0] != parts[1]:
            raise DataError(f"the two benchmarks were judged on unlike {name}s", first=parts[0], second=parts[1])
    judged = [data.get("manifest") for data in (first, second)]
    if None not in judged and judged[0] != judged[1]:
        raise DataError("the two benchmarks were judged on other clips or frames: their hashes (data.manifest) are not the same")


def check_runs_alike(first: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], environment: Mapping[str, Any]) -> None:
    """Raise ConfigError where what is to stand beside the run of a summary would run on another device, or multiply there otherwise.

    models, environment: of the second run, as far as they are known when its models are open, see `vidkd.bench.speed.run.Check`.
    """
    if other := next(_unlike_devices(first, {"data": {"models": models}, "environment": environment}), None):
        mend = "--device and tf32 as in the first run, another --out, or measure anew without --repeat"
        raise ConfigError("the first run was on another device, or multiplied otherwise on it", found=other, to_mend=mend)


def _unlike_devices(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """What two summaries tell of devices that is not the same; what one of them does not say is not compared."""
    words = {"runs_on": "ran on unlike libraries or devices", "clock": "was timed by unlike clocks"}
    models = [summary["data"].get("models", {}) for summary in (first, second)]
    for label in models[0]:
        pairs = {name: [each.get(label, {}).get(name) for each in models] for name in words}
        if unlike := next((name for name, pair in pairs.items() if None not in pair and pair[0] != pair[1]), None):
            yield f"{label} {words[unlike]}: {'; '.join(pairs[unlike])}"
    tf32 = [summary["environment"].get("TF32") for summary in (first, second)]  # none without CUDA, where it changes nothing
    if None not in tf32 and tf32[0] != tf32[1]:
        yield f"TF32 was set in unlike ways: {'; '.join(tf32)}"


def unlike_models(first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The labels of models that only one of two runs has, or of which they tell other files or another way to run them.

    first, second: the models of two summaries' data; what one of them does not say is not compared.
    """
    return [label for label in dict.fromkeys((*first, *second)) if _is_unlike(first.get(label), second.get(label))]


def _is_unlike(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    if one is None or other is None:
        return True
    return any(one[name] != other[name] for name in ("content", "way") if name in one and name in other)


def _changes(
    first: Mapping[str, Any], second: Mapping[str, Any], machine: bool, tolerance: float, measurements: tuple[Measured, Measured]
) -> Iterator[Change]:
    methods = first["methods"], second["methods"]
    for model in dict.fromkeys((*methods[0], *methods[1])):
        before, after = (side[model]["metrics"] if model in side else {} for side in methods)
        for metric in dict.fromkeys((*before, *after)):
            base = metric.partition("@")[0]
            if base in COUNTS or (not machine and base in (*ABSOLUTE, *ABSOLUTE_PARTS)):
                continue
            pair = _figure(before.get(metric)), _figure(after.get(metric))
            moved = None
            if is_accuracy(metric):
                moved = moved_between(*measurements, model, metric) or short_moved(first["data"], second["data"], model, metric)
            verdict = _verdict(metric, *pair, moved, tolerance)
            yield Change(model=model, metric=metric, before=pair[0], after=pair[1], verdict=verdict, moved=moved)


def _verdict(metric: str, before: Value | None, after: Value | None, moved: Moved | None, tolerance: float) -> Verdict:
    if before is None or after is None:
        return "new" if before is None else "gone"
    slack = tolerance * abs(before[0]) + (UNPAIRED if is_accuracy(metric) and moved is None else 0.0)
    bounds = _difference(metric, before, after, moved)
    if bounds is None:
        untold = 0.0 if is_accuracy(metric) else UNTOLD * abs(before[0])
        return "same" if abs(after[0] - before[0]) <= max(slack, untold) else "unknown"
    low, high = bounds
    if low > slack + EPSILON:
        return "better" if is_better_higher(metric) else "worse"
    if high < -slack - EPSILON:
        return "worse" if is_better_higher(metric) else "better"
    return "same"


def _difference(metric: str, before: Value, after: Value, moved: Moved | None) -> Bounds | None:
    """Between which bounds the second figure lies above the first; None where nothing tells."""
    (old, old_ci), (new, new_ci) = before, after
    if moved is not None:
        return moved.ci95
    if is_accuracy(metric) or metric in EXACT:
        return new - old, new - old
    if old_ci is None or new_ci is None:
        return None
    return new_ci[0] - old_ci[1], new_ci[1] - old_ci[0]


def _notes(first: Mapping[str, Any], second: Mapping[str, Any], changes: tuple[Change, ...]) -> Iterator[str]:
    data = [summary["data"] for summary in (first, second)]
    for model in data[0].get("models", {}):
        told = [each.get("models", {}).get(model, {}) for each in data]
        for name, words in (("judged_on", "was judged in unlike ways: on {}; on {}"), ("way", "was run in unlike ways: {}; {}")):
            ways = [each.get(name) for each in told]
            if None not in ways and ways[0] != ways[1]:
                yield f"{model} {words.format(*map(_way, ways))}"
    yield from _unlike_devices(first, second)
    shapes = [each.get("shape") for each in data]
    if None not in shapes and shapes[0] != shapes[1]:
        yield f"backbones, and detectors without data, were shown unlike shapes: {_way(shapes[0])}; {_way(shapes[1])}"
    if libraries := other_libraries(first["environment"], second["environment"]):
        yield f"libraries differ: {', '.join(libraries)}"
    compared = [change for change in changes if is_accuracy(change.metric) and change.verdict not in ("gone", "new")]
    if any(change.moved is None for change in compared):
        yield f"accuracies are the same within {UNPAIRED:g} where not both runs keep what it takes to compare in pairs"


def _way(told: object) -> str:
    """What a summary tells of a model in words."""
    if not isinstance(told, Mapping):
        return str(told)
    return ", ".join(f"{name} {value}" for name, value in told.items() if value is not None) or "as it is by default"


def is_accuracy(metric: str) -> bool:
    """Whether a figure says how good a model is, not what it costs."""
    return not metric.startswith(COSTS)


def is_better_higher(metric: str) -> bool:
    """Whether more of a metric is better; of times, sizes and errors less is."""
    base = metric.partition("@")[0]
    return not base.endswith(ERRORS) if is_accuracy(metric) else base == "throughput"


def _figure(row: Mapping[str, Any] | None) -> Value | None:
    if row is None:
        return None
    return float(row["mean"]), None if row["ci95"] is None else (float(row["ci95"][0]), float(row["ci95"][1]))


def _words(figure: Value | None) -> str:
    if figure is None:
        return "none"
    value, bounds = figure
    return f"{value:.4g}" + (_interval(bounds, ".4g") if bounds else "")


def _interval(bounds: Bounds, form: str) -> str:
    return f" [{bounds[0]:{form}}, {bounds[1]:{form}}]"
