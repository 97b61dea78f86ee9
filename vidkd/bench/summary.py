"""summary.json: what a study found, in one schema for all studies; built, written, read and checked here."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vidkd.base.errors import DataError, nearest
from vidkd.base.files import read_json, write_json
from vidkd.bench.intervals import Cell, bootstrap_ci, paired_difference

SCHEMA_VERSION = 1
_CELL = re.compile(r"\d+/.+")
CONDITION_SECONDS, CONDITION_PARAMETERS = "train_s", "parameters"
"""Metrics that say under one condition what `Method` says of all of them together."""
_METRIC = re.compile(r"[a-z][a-z0-9_.-]*(@[a-z0-9_.-]+)?")
METRIC_LETTERS = "small letters, digits, _, . and -"
_PART = re.compile(r"[a-z0-9_.-]+")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a method: its value in each cell ("<seed>/<fold>") and the interval of their mean, None if unknown."""

    values: Mapping[str, float]
    ci95: tuple[float, float] | None = None

    @staticmethod
    def of_cells(cells: Sequence[Cell], *, draws: int = 10_000, seed: int = 0) -> "Metric":
        """The metric whose values are the cells' mean scores, with its bootstrap interval."""
        return Metric(values={cell.name: cell.mean for cell in cells}, ci95=bootstrap_ci(cells, draws=draws, seed=seed).ci95)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of a study.

    metrics: by name, which carries the condition (`top1@obs20`). train_seconds: of one cell, in the mean. parameters: of the student;
    None where conditions have unlike ones.
    """

    metrics: Mapping[str, Metric]
    train_seconds: float | None = None
    parameters: int | None = None


@dataclass(frozen=True, kw_only=True)
class Paired:
    """`method` minus `reference` in one metric; pairs: how many cells are on both sides."""

    method: str
    reference: str
    metric: str
    difference: float
    ci95: tuple[float, float] | None
    pairs: int

    @staticmethod
    def of_cells(
        method: str, cells: Sequence[Cell], reference: str, others: Sequence[Cell], *, metric: str, draws: int = 10_000, seed: int = 0
    ) -> "Paired":
        """The paired difference of two methods' cells, with its bootstrap interval."""
        found = paired_difference(cells, others, draws=draws, seed=seed)
        return Paired(method=method, reference=reference, metric=metric, difference=found.mean, ci95=found.ci95, pairs=found.cells)


def fits_in_metric(part: str) -> bool:
    """Whether a text may end the name of a metric: a condition behind its @, or the name of a method (METRIC_LETTERS)."""
    return _PART.fullmatch(part) is not None


def build_summary(
    study: str,
    data: Mapping[str, Any] | str,
    environment: Mapping[str, Any],
    methods: Mapping[str, Method],
    paired: Sequence[Paired],
    seconds: float,
) -> dict[str, Any]:
    """The content of summary.json, checked.

    study: name. data: what was judged on (name, hashes, split). environment: versions, device, commit. seconds: of the whole study.
    Raises DataError where the parts do not fit the schema.
    """
    summary = {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "data": dict(data) if isinstance(data, Mapping) else data,
        "environment": dict(environment),
        "methods": {name: _method_row(method) for name, method in methods.items()},
        "paired": [{**vars(pair), "ci95": _pair(pair.ci95)} for pair in paired],
        "seconds": seconds,
    }
    return check_summary(summary, source="the summary of this study")


def write_summary(path: Path | str, summary: Mapping[str, Any]) -> None:
    """Check a summary and write it atomically. Raises DataError as `check_summary` does."""
    write_json(path, check_summary(summary, source=str(path)))


def read_summary(path: Path | str) -> dict[str, Any]:
    """Read and check a summary.json. Raises DataError with the file and the key that is wrong."""
    return check_summary(read_json(path), source=str(path))


def check_summary(summary: Any, *, source: str) -> dict[str, Any]:
    """`summary` itself if it follows the schema, else DataError naming the key (`methods.kd.metrics.top1.mean`) and what is wrong.

    Checked beyond types: no unknown keys, no NaN, `n` and `mean` follow from `values`, bounds in order, paired names exist.
    """
    check = _Check(source)
    check.keys(summary, "", {"schema_version", "study", "data", "environment", "methods", "paired", "seconds"})
    if summary["schema_version"] != SCHEMA_VERSION:
        check.fail("schema_version", f"is {summary['schema_version']!r}, this version reads {SCHEMA_VERSION}")
    check.text(summary["study"], "study")
    if not isinstance(summary["data"], dict | str):
        check.fail("data", "is neither a mapping nor a name")
    check.mapping(summary["environment"], "environment")
    for name, method in check.mapping(summary["methods"], "methods").items():
        _check_method(check, method, f"methods.{name}")
    for index, pair in enumerate(check.sequence(summary["paired"], "paired")):
        _check_paired(check, pair, f"paired[{index}]", summary["methods"])
    check.number(summary["seconds"], "seconds", least=0)
    checked: dict[str, Any] = summary
    return checked


def _method_row(method: Method) -> dict[str, Any]:
    metrics = {
        name: {
            "values": dict(metric.values),
            "mean": math.fsum(metric.values.values()) / max(1, len(metric.values)),
            "ci95": _pair(metric.ci95),
            "n": len(metric.values),
        }
        for name, metric in method.metrics.items()
    }
    return {"metrics": metrics, "train_seconds": method.train_seconds, "parameters": method.parameters}


def _pair(bounds: tuple[float, float] | None) -> list[float] | None:
    return None if bounds is None else list(bounds)


def _check_method(check: "_Check", method: Any, at: str) -> None:
    check.keys(method, at, {"metrics", "train_seconds", "parameters"})
    for name, metric in check.mapping(method["metrics"], f"{at}.metrics").items():
        if not _METRIC.fullmatch(name):
            check.fail(f"{at}.metrics", f"'{name}' is no metric name (such as top1, top1@obs20)")
        _check_metric(check, metric, f"{at}.metrics.{name}")
    if method["train_seconds"] is not None:
        check.number(method["train_seconds"], f"{at}.train_seconds", least=0)
    if method["parameters"] is not None:
        check.count(method["parameters"], f"{at}.parameters")


def _check_metric(check: "_Check", metric: Any, at: str) -> None:
    check.keys(metric, at, {"values", "mean", "ci95", "n"})
    values = check.mapping(metric["values"], f"{at}.values")
    if not values:
        check.fail(f"{at}.values", "is empty")
    for cell, value in values.items():
        if not _CELL.fullmatch(cell):
            check.fail(f"{at}.values", f"'{cell}' is no cell name (<seed>/<fold>)")
        check.number(value, f"{at}.values.{cell}")
    if check.count(metric["n"], f"{at}.n") != len(values):
        check.fail(f"{at}.n", f"is {metric['n']}, but there are {len(values)} values")
    mean = math.fsum(values.values()) / len(values)
    if not math.isclose(check.number(metric["mean"], f"{at}.mean"), mean, rel_tol=1e-6, abs_tol=1e-9):
        check.fail(f"{at}.mean", f"is {metric['mean']}, but the values have the mean {mean:.6g}")
    check.bounds(metric["ci95"], f"{at}.ci95")


def _check_paired(check: "_Check", pair: Any, at: str, methods: Mapping[str, Any]) -> None:
    check.keys(pair, at, {"method", "reference", "metric", "difference", "ci95", "pairs"})
    for side in ("method", "reference"):
        if pair[side] not in methods:
            check.fail(f"{at}.{side}", f"'{pair[side]}' is not among the methods")
        if pair["metric"] not in methods[pair[side]]["metrics"]:
            check.fail(f"{at}.metric", f"'{pair['metric']}' is no metric of '{pair[side]}'")
    check.number(pair["difference"], f"{at}.difference")
    check.bounds(pair["ci95"], f"{at}.ci95")
    if check.count(pair["pairs"], f"{at}.pairs") == 0:
        check.fail(f"{at}.pairs", "is 0")


class _Check:
    """Checks of single values; every failure is a DataError with the file and the key."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, key: str, what: str) -> NoReturn:
        raise DataError("not a summary of this schema", at=f"{self.source}: {key}" if key else self.source, problem=what)

    def mapping(self, value: Any, key: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            self.fail(key, f"is not a mapping of names but {type(value).__name__}")
        return value

    def sequence(self, value: Any, key: str) -> list[Any]:
        if not isinstance(value, list):
            self.fail(key, f"is not a list but {type(value).__name__}")
        return value

    def keys(self, value: Any, key: str, expected: set[str]) -> None:
        found = set(self.mapping(value, key))
        for name in sorted(found - expected):
            close = nearest(name, expected)
            self.fail(key, f"unknown key '{name}'" + (f", did you mean '{close}'?" if close else ""))
        if missing := sorted(expected - found):
            self.fail(key, f"lacks {', '.join(missing)}")

    def text(self, value: Any, key: str) -> None:
        if not isinstance(value, str) or not value:
            self.fail(key, "is not a name")

    def number(self, value: Any, key: str, least: float = -math.inf) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
            self.fail(key, f"is not a finite number{f' of at least {least}' if math.isfinite(least) else ''}: {value!r}")
        return float(value)

    def count(self, value: Any, key: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.fail(key, f"is not a count: {value!r}")
        return value

    def bounds(self, value: Any, key: str) -> None:
        if value is None:
            return
        if not isinstance(value, list) or len(value) != 2:
            self.fail(key, f"is neither null nor [low, high]: {value!r}")
        low, high = (self.number(bound, key) for bound in value)
        if low > high:
            self.fail(key, f"has its bounds out of order: {value}")
