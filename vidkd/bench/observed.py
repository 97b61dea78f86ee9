"""Names of metrics with their conditions (top1@obs20, top1@obs20-50.labels25), and per-clip scores of several observed shares."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.engine.evaluate import area_weights

ACCURACY, AREA = "top1", "top1_area"
_NUMBER = r"\d+(?:\.\d+)?"
_CONDITION = re.compile(rf"(?P<word>[a-z_]+)(?P<low>{_NUMBER})(?:-(?P<high>{_NUMBER}))?(?:\.(?P<other>.+))?")
_PREDICTED = "predicted@obs"


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


def is_accuracy(metric: str) -> bool:
    """Whether a metric is worked out clip by clip from the predictions."""
    return metric.partition("@")[0] in (ACCURACY, AREA)


def percents_of(rows: Mapping[str, Any]) -> list[float]:
    """The observed shares, in percent and rising, at which a cell's predictions were made; none for one prediction a clip."""
    return sorted(float(name.removeprefix(_PREDICTED)) for name in rows if name.startswith(_PREDICTED))


def clip_scores(rows: Mapping[str, Any], metric: str) -> NDArray[np.float64]:
    """(N,) what each clip contributes to `top1`, `top1_area`, `top1@obs20` or `top1@obs20-50`; their mean over clips is the metric.

    rows: predictions of a cell. Where they were made at several observed shares, `top1` is the mean over all of them, a range the mean over
    those in it, and the area weighs each as the trapezoid rule does. Raises DataError if there is none at a share that is named.
    """
    percents, labels, name = percents_of(rows), np.asarray(rows["label"]), parsed(metric)
    if not percents and not name.word:
        return np.asarray(np.equal(rows["predicted"], labels), np.float64)
    if name.word and not {name.low, name.high} <= set(percents):
        judged = ", ".join(f"{percent:g} %" for percent in percents)
        raise DataError(f"cells have no predictions for '{metric}'", observed=judged or "whole clips")
    weights = np.array([not name.word or name.low <= percent <= name.high for percent in percents], np.float64)
    weights = area_weights(percents) if metric == AREA else weights / weights.sum()
    right = np.array([np.equal(rows[f"{_PREDICTED}{percent:g}"], labels) for percent in percents], np.float64)
    return np.asarray(weights @ right)
