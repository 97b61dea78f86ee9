"""summary.json: what a study found, in one schema for all studies; built, written, read and checked here."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vidkd.base.errors import DataError
from vidkd.base.files import read_json, write_json
from vidkd.bench.intervals import BLOCK, Measured, bootstrap_ci, name_of, paired_difference

SCHEMA_VERSION = 1
CONDITION_SECONDS, CONDITION_PARAMETERS = "train_s", "parameters"
"""Metrics that say under one condition what `Method` says of all of them together."""
METRIC_LETTERS = "small letters, digits, _, . and -"
Bounds = tuple[float, float] | None
ACCURACY, AREA = "top1", "top1_area"
_NUMBER = r"\d+(?:\.\d+)?"
_CONDITION = re.compile(rf"(?P<word>[a-z_]+)(?P<low>{_NUMBER})(?:-(?P<high>{_NUMBER}))?(?:\.(?P<other>.+))?")


class Metric(msgspec.Struct, forbid_unknown_fields=True):
    """One number of a method: its value in each cell ("<seed>/<fold>"), their mean and number, and its interval, None if unknown."""

    values: dict[str, float]
    mean: float = math.nan
    ci95: Bounds = None
    n: int = 0

    def __post_init__(self) -> None:
        self.n = len(self.values)
        self.mean = math.fsum(self.values.values()) / max(1, self.n)

    @staticmethod
    def of_cells(cells: Sequence[Measured], *, draws: int = 10_000, block: int = BLOCK) -> "Metric":
        """The metric whose values are those of the cells, with its bootstrap interval."""
        ci95 = bootstrap_ci(cells, draws=draws, block=block).ci95
        return Metric(values={name_of(cell): cell.value for cell in cells}, ci95=ci95)


class Method(msgspec.Struct, forbid_unknown_fields=True):
    """One method of a study.

    metrics: by name, which carries the condition (`top1@obs20`). train_seconds: of one cell, in the mean. parameters: of the student;
    None where they differ between conditions.
    """

    metrics: dict[str, Metric]
    train_seconds: float | None = None
    parameters: int | None = None


class Paired(msgspec.Struct, forbid_unknown_fields=True):
    """`method` minus `reference` in one metric; pairs: how many cells are on both sides."""

    method: str
    reference: str
    metric: str
    difference: float
    ci95: Bounds
    pairs: int

    @staticmethod
    def of_cells(
        method: str,
        cells: Sequence[Measured],
        reference: str,
        others: Sequence[Measured],
        *,
        metric: str,
        draws: int = 10_000,
        block: int = BLOCK,
    ) -> "Paired":
        """The paired difference of two methods' cells, with its bootstrap interval."""
        found = paired_difference(cells, others, draws=draws, block=block)
        return Paired(method=method, reference=reference, metric=metric, difference=found.mean, ci95=found.ci95, pairs=found.cells)


class Summary(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The whole file. chosen: which settings tuning chose, where the study has trials (`vidkd.bench.tuning`)."""

    schema_version: int
    study: str
    data: dict[str, Any] | str
    environment: dict[str, Any]
    methods: dict[str, Method]
    paired: list[Paired]
    seconds: float
    chosen: dict[str, Any] | None = None


def fits_in_metric(part: str) -> bool:
    """Whether a text may end the name of a metric: a condition behind its @, or the name of a method (METRIC_LETTERS)."""
    return re.fullmatch(r"[a-z0-9_.-]+", part) is not None


class MetricName(NamedTuple):
    """What `top1@obs20-50.labels25` is made of: base, word of the condition, its lowest and highest number, what follows ("")."""

    base: str
    word: str
    low: float
    high: float
    other: str

    @property
    def numbers(self) -> str:
        """The condition's number as a reader has it: `20`, `20-50`."""
        return f"{self.low:g}-{self.high:g}" if self.low != self.high else f"{self.low:g}"


def parsed(metric: str) -> MetricName:
    """The parts of a metric's name; a condition without a number (`latency_ms@b1t1`) stays whole in `other`."""
    base, _, condition = metric.partition("@")
    found = _CONDITION.fullmatch(condition)
    if found is None:
        return MetricName(base, "", 0, 0, condition)
    return MetricName(base, found["word"], float(found["low"]), float(found["high"] or found["low"]), found["other"] or "")


def under(metric: str, condition: str | None) -> str:
    """A metric's name with the condition of its entry: top1@labels25, top1@obs20.labels25."""
    return f"{metric}{'.' if '@' in metric else '@'}{condition}" if condition else metric


def mean_name(fractions: Sequence[float]) -> str:
    """The metric that is the mean over observed fractions: `top1@obs20-50` for 0.2 to 0.5, `top1@obs20` for one."""
    return f"{ACCURACY}@obs{MetricName('', '', 100 * fractions[0], 100 * fractions[-1], '').numbers}"


def build_summary(
    study: str,
    data: Mapping[str, Any] | str,
    environment: Mapping[str, Any],
    methods: Mapping[str, Method],
    paired: Sequence[Paired],
    seconds: float,
) -> dict[str, Any]:
    """The content of summary.json.

    study: name. data: what was judged on (name, hashes, split). environment: versions, device, commit. seconds: of the whole study.
    """
    judged = data if isinstance(data, str) else dict(data)
    summary = Summary(SCHEMA_VERSION, study, judged, dict(environment), dict(methods), list(paired), seconds)
    found: dict[str, Any] = msgspec.to_builtins(summary)
    return found


def write_summary(path: Path | str, summary: Mapping[str, Any]) -> None:
    """Write a summary atomically; NaN is refused (ValueError)."""
    write_json(path, summary)


def read_summary(path: Path | str) -> dict[str, Any]:
    """Read a summary.json. Raises DataError with the file and the key that is wrong, for other versions too."""
    content: dict[str, Any] = read_json(path)
    try:
        version = msgspec.convert(content, Summary).schema_version
    except msgspec.ValidationError as error:
        raise DataError(f"{path} is not a summary of this schema", problem=error) from None
    if version != SCHEMA_VERSION:
        raise DataError(f"{path} has schema {version}, this version reads {SCHEMA_VERSION}")
    return content
