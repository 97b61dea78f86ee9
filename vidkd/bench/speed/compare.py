"""Two benchmark summaries compared: which figures got worse by more than their 95 % intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vidkd.base.errors import DataError

Verdict = Literal["same", "better", "worse", "unknown", "gone", "new"]
TIMES = ("latency", "throughput", "end_to_end", "cold_start", "first_answer")
"""Prefixes of figures that depend on the machine, but for ratios."""
EXACT = ("parameters", "macs", "macs_torch", "file_bytes")
COSTS = (*TIMES, "memory", "gpu_memory", *EXACT)
"""Prefixes of figures that are costs; all others are accuracies."""
ERRORS = ("ece", "nll")
NEUTRAL = ("latency_n", "end_to_end_n", "end_to_end_decode_share")
"""Figures of which neither more nor less is better."""
ACCURACY = 0.01
"""Difference within which accuracies count as the same."""
UNKNOWN = 0.005
"""Relative difference within which figures without an interval count as the same."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure in two runs: rows of `metrics` in a summary, None where a run lacks it."""

    model: str
    metric: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    verdict: Verdict

    @property
    def is_regression(self) -> bool:
        """Whether it is worse or missing, or moved in the wrong direction without an interval to judge it by."""
        if self.verdict != "unknown" or self.before is None or self.after is None:
            return self.verdict in ("worse", "gone")
        return bool(self.after["mean"] < self.before["mean"]) == is_higher_better(self.metric)

    def __str__(self) -> str:
        return f"{self.model}  {self.metric}  {_words(self.before)} -> {_words(self.after)}  {self.verdict}"


def compare(first: Mapping[str, Any], second: Mapping[str, Any], *, tolerance: float = 0.0) -> list[Change]:
    """All figures of two summaries; `second` against `first`.

    A time differs if the two 95 % intervals do not overlap, an exact figure (parameters, bytes) if it is another number. Accuracies are of
    the same samples, so they differ if they are more than ACCURACY apart. tolerance: share of
    the first value by which a figure may differ on top of that. Absolute times of unlike machines are left out. Raises DataError for
    summaries that are of no benchmark, of other data or of other baselines.
    """
    for summary in (first, second):
        check_is_benchmark(summary)
    _check_alike(first["data"], second["data"])
    machine, changes = same_machine(first["environment"], second["environment"]), []
    for model in dict.fromkeys((*first["methods"], *second["methods"])):
        before, after = (summary["methods"].get(model, {"metrics": {}})["metrics"] for summary in (first, second))
        for metric in dict.fromkeys((*before, *after)):
            base = metric.partition("@")[0]
            of_machine = base.startswith(TIMES) and not base.endswith("_ratio")
            if base not in NEUTRAL and (machine or not of_machine):
                pair = before.get(metric), after.get(metric)
                verdict = _verdict(base, *pair, tolerance)
                changes.append(Change(model=model, metric=metric, before=pair[0], after=pair[1], verdict=verdict))
    return changes


def same_machine(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two environments are of one kind of machine, so that seconds of one can be compared with seconds of the other."""
    return all(first.get(name) == second.get(name) for name in ("processor", "processor flags", "cores", "cores of this process", "gpu"))


def check_is_benchmark(summary: Mapping[str, Any]) -> None:
    """Raise DataError for the summary of a study or a recipe."""
    if not isinstance(summary["data"], Mapping) or "baseline" not in summary["data"]:
        raise DataError(f"not the summary of a benchmark: {summary['study']}", hint="vidkd benchmark writes one")


def held_against(data: Mapping[str, Any], model: str) -> str | None:
    """The label of the model that the ratios and the difference of `model` are to; None for the baseline. data: of a summary."""
    return None if model == data["baseline"] else str(data["models"][model].get("reference") or data["baseline"])


def _check_alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    for name in ("baseline", "split", "subset", "manifest"):
        pair = [data.get(name) for data in (first, second)]
        if None not in pair and pair[0] != pair[1]:
            raise DataError(f"the two benchmarks differ in {name}", first=pair[0], second=pair[1])
    for model in {*first["models"]} & {*second["models"]}:
        others = [held_against(data, model) for data in (first, second)]
        if others[0] != others[1]:
            raise DataError(f"the two benchmarks compare '{model}' with different models", first=others[0], second=others[1])


def _verdict(base: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, tolerance: float) -> Verdict:
    if before is None or after is None:
        return "new" if before is None else "gone"
    old, new = before["mean"], after["mean"]
    slack = tolerance * abs(old) + 1e-9
    if base in EXACT or not base.startswith(COSTS):
        low = high = new - old
        slack += 0 if base in EXACT else ACCURACY
    elif before["ci95"] is None or after["ci95"] is None:
        return "same" if abs(new - old) <= max(tolerance, UNKNOWN) * abs(old) else "unknown"
    else:
        low, high = after["ci95"][0] - before["ci95"][1], after["ci95"][1] - before["ci95"][0]
    if low <= slack and high >= -slack:
        return "same"
    return "better" if (low > slack) == is_higher_better(base) else "worse"


def is_higher_better(metric: str) -> bool:
    """Whether more of a metric is better: of accuracies and throughput; of times, sizes and errors less is."""
    base = metric.partition("@")[0]
    return base == "throughput" if base.startswith(COSTS) else not base.endswith(ERRORS)


def _words(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "none"
    bounds = "" if row["ci95"] is None else f" [{row['ci95'][0]:.4g}, {row['ci95'][1]:.4g}]"
    return f"{row['mean']:.4g}{bounds}"
