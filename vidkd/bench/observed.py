"""Names and per-clip scores of what was judged at several observed shares: top1@obs20, top1@obs20-50, the area under their curve."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.engine.evaluate import area_weights

ACCURACY, AREA = "top1", "top1_area"
_NUMBER = r"\d+(?:\.\d+)?"
_OBSERVED = re.compile(rf"(?P<base>[^@]+)@obs(?P<low>{_NUMBER})(?:-(?P<high>{_NUMBER}))?(?:\.(?P<condition>.+))?")
_PREDICTED = "predicted@obs"


class ObservedMetric(NamedTuple):
    """What `top1@obs20-50.labels25` is made of: base, the lowest and the highest observed share in percent, and the condition ("")."""

    base: str
    low: float
    high: float
    condition: str

    @property
    def is_range(self) -> bool:
        """Whether it is a mean over several shares."""
        return self.low != self.high

    @property
    def percent(self) -> str:
        """The observed share as a reader has it: `20 %`, `20-50 %`."""
        return f"{self.low:g}-{self.high:g} %" if self.is_range else f"{self.low:g} %"


def observed_metric(name: str) -> ObservedMetric | None:
    """The parts of a metric's name; None for one that names no observed share."""
    found = _OBSERVED.fullmatch(name)
    if found is None:
        return None
    low = float(found["low"])
    return ObservedMetric(found["base"], low, low if found["high"] is None else float(found["high"]), found["condition"] or "")


def under(metric: str, condition: str | None) -> str:
    """A metric's name with the condition of its entry: top1@labels25, top1@obs20.labels25."""
    return f"{metric}{'.' if '@' in metric else '@'}{condition}" if condition else metric


def condition_of(metric: str) -> str:
    """The condition behind a metric's name, an observed share left out; "" without one."""
    observed = observed_metric(metric)
    return metric.partition("@")[2] if observed is None else observed.condition


def mean_name(fractions: Sequence[float]) -> str:
    """The metric that is the mean over observed fractions: `top1@obs20-50` for 0.2 to 0.5."""
    low, high = (f"{100 * fraction:g}" for fraction in (fractions[0], fractions[-1]))
    return f"{ACCURACY}@obs{low}" if low == high else f"{ACCURACY}@obs{low}-{high}"


def at_name(fraction: float) -> str:
    """The metric at one observed fraction: `top1@obs20` for 0.2."""
    return mean_name([fraction])


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
    percents, labels = percents_of(rows), np.asarray(rows["label"])
    if not percents and "@" not in metric:
        return np.asarray(np.equal(rows["predicted"], labels), np.float64)
    weights = _weights(percents, metric)
    right = np.array([np.equal(rows[f"{_PREDICTED}{percent:g}"], labels) for percent in percents], np.float64)
    return np.asarray(weights @ right)


def _weights(percents: Sequence[float], metric: str) -> NDArray[np.float64]:
    """What each observed share counts, summing to one."""
    if metric == AREA and percents:
        return area_weights(percents)
    observed = observed_metric(metric)
    if not percents or (observed is not None and not {observed.low, observed.high} <= set(percents)):
        judged = ", ".join(f"{percent:g} %" for percent in percents)
        raise DataError(f"cells have no predictions for '{metric}'", observed=judged or "whole clips")
    inside = np.array([observed is None or observed.low <= percent <= observed.high for percent in percents], np.float64)
    return np.asarray(inside / inside.sum())
