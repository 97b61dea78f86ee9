"""Two runs of a benchmark held against each other: which figures differ by more than their intervals tell, and which got worse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vidkd.base.errors import DataError
from vidkd.bench.speed.machine import same_machine

Verdict = Literal["same", "better", "worse", "unknown", "gone", "new"]

HIGHER_IS_BETTER = ("top", "class_mean", "ap", "map", "recall", "throughput")
EXACT = ("parameters", "macs", "macs_torch", "file_bytes")
COUNTS = ("latency_n", "end_to_end_n")
"""How often something was measured: neither better nor worse."""
ABSOLUTE = ("latency_ms", "latency_p95_ms", "throughput", "end_to_end_ms", "end_to_end_p95_ms", "cold_start_s", "cold_start_ready_s")
ABSOLUTE_PARTS = ("end_to_end_decode_ms", "end_to_end_flow_ms", "end_to_end_model_ms", "first_answer_s")
"""Figures of a machine, which say nothing beside those of another one."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure in two runs. before, after: value and interval (None where it is exact or unknown)."""

    model: str
    metric: str
    before: tuple[float, tuple[float, float] | None] | None
    after: tuple[float, tuple[float, float] | None] | None
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.model}  {self.metric}  {_words(self.before)} -> {_words(self.after)}  {self.verdict}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All figures of two runs. same_machine: seconds were compared; on unlike machines ratios to the baseline alone are."""

    changes: tuple[Change, ...]
    same_machine: bool

    def of(self, *verdicts: Verdict) -> list[Change]:
        """Those with one of these verdicts."""
        return [change for change in self.changes if change.verdict in verdicts]


def compare(first: Mapping[str, Any], second: Mapping[str, Any], *, tolerance: float = 0.0) -> Comparison:
    """Every figure of two summaries, `second` as held against `first`.

    A figure differs if the two 95 % intervals do not meet; an exact one, as the number of parameters, if it is another number. Of one that
    has no interval on a side and is not exact nobody can say: `unknown`, unless it is equal. tolerance: share of the first value by which
    a figure may differ on top of that. A figure or model that only one run has is `gone` or `new`.
    Raises DataError for summaries of no benchmark, of unlike baselines, or judged on other clips.
    """
    for summary in (first, second):
        if not isinstance(summary["data"], Mapping) or "baseline" not in summary["data"]:
            raise DataError(f"the summary of a study, not of a benchmark: {summary['study']}", to_mend="vidkd benchmark writes one")
    names = [str(summary["data"]["baseline"]) for summary in (first, second)]
    if names[0] != names[1]:
        raise DataError("the two benchmarks have unlike baselines", first=names[0], second=names[1])
    judged = [summary["data"].get("manifest") for summary in (first, second)]
    if None not in judged and judged[0] != judged[1]:
        raise DataError("the two benchmarks were judged on other clips or frames: their hashes (data.manifest) are not the same")
    machine = same_machine(first["environment"], second["environment"])
    return Comparison(changes=tuple(_changes(first["methods"], second["methods"], machine, tolerance)), same_machine=machine)


def _changes(first: Mapping[str, Any], second: Mapping[str, Any], machine: bool, tolerance: float) -> Iterator[Change]:
    for model in dict.fromkeys((*first, *second)):
        before, after = (side[model]["metrics"] if model in side else {} for side in (first, second))
        for metric in dict.fromkeys((*before, *after)):
            base = metric.partition("@")[0]
            if base in COUNTS or (not machine and base in (*ABSOLUTE, *ABSOLUTE_PARTS)):
                continue
            pair = _figure(before.get(metric)), _figure(after.get(metric))
            yield Change(model=model, metric=metric, before=pair[0], after=pair[1], verdict=_verdict(metric, *pair, tolerance))


def _verdict(metric: str, before: Any, after: Any, tolerance: float) -> Verdict:
    if before is None or after is None:
        return "new" if before is None else "gone"
    (old, old_ci), (new, new_ci) = before, after
    if (old_ci is None or new_ci is None) and metric not in EXACT:
        return "same" if old == new else "unknown"
    slack = tolerance * abs(old)
    low, high = old_ci or (old, old)
    new_low, new_high = new_ci or (new, new)
    if new_low > high + slack:
        return "better" if is_better_higher(metric) else "worse"
    if new_high < low - slack:
        return "worse" if is_better_higher(metric) else "better"
    return "same"


def is_better_higher(metric: str) -> bool:
    """Whether more of a metric is better; of times, sizes and errors less is."""
    return metric.startswith(HIGHER_IS_BETTER)


def _figure(row: Mapping[str, Any] | None) -> tuple[float, tuple[float, float] | None] | None:
    if row is None:
        return None
    return float(row["mean"]), None if row["ci95"] is None else (float(row["ci95"][0]), float(row["ci95"][1]))


def _words(figure: tuple[float, tuple[float, float] | None] | None) -> str:
    if figure is None:
        return "none"
    value, bounds = figure
    return f"{value:.4g}" + (f" [{bounds[0]:.4g}, {bounds[1]:.4g}]" if bounds else "")
