"""How much better or worse each model is than the one that it is held against, where both were judged on the same clips or frames."""

import numpy as np

from vidkd.bench.intervals import Cell, paired_difference
from vidkd.bench.observed import ACCURACY
from vidkd.bench.speed.accuracy import Accuracy
from vidkd.bench.speed.draws import metric_interval
from vidkd.bench.speed.run import Results
from vidkd.bench.speed.statistics import Figure
from vidkd.bench.summary import Paired


def pairs_of(results: Results) -> list[Paired]:
    """The main metric of every model against that of the model that it is held against: top-1, or AP50 or recall of detectors."""
    pairs = []
    for label, model in results.models.items():
        against = results.config.against(label)
        base = None if against is None else results.models[against].accuracy
        if against is None or base is None or model.accuracy is None:
            continue
        if (found := difference(model.accuracy, base)) is not None:
            metric, figure = found
            pairs.append(Paired(method=label, against=against, metric=metric, difference=figure.value, ci95=figure.ci95, pairs=figure.n))
    return pairs


def difference(accuracy: Accuracy, base: Accuracy) -> tuple[str, Figure] | None:
    """The name of the main metric, and `accuracy` minus `base` in it with the interval over test groups.

    None where the two were not judged on the same clips, or not on the same frames and classes. The groups of frames that are drawn are the
    same for both, so the interval is that of the differences within the draws; it is None with one group.
    """
    if _same_clips(accuracy.cell, base.cell):
        assert accuracy.cell is not None
        assert base.cell is not None
        found = paired_difference([accuracy.cell], [base.cell], over=("groups",))
        return ACCURACY, Figure(value=found.mean, ci95=found.ci95, n=found.cells)
    mine, other = accuracy.drawn, base.drawn
    if mine is None or other is None or mine.on != other.on:
        return None
    metric = mine.metric
    value = accuracy.metrics[metric].value - base.metrics[metric].value
    drawn = mine.values[metric] - other.values[metric] if metric in mine.values else np.zeros(0)
    return metric, Figure(value=value, ci95=metric_interval(metric, drawn, signed=True))


def _same_clips(first: Cell | None, second: Cell | None) -> bool:
    return first is not None and second is not None and np.array_equal(np.asarray(first.clip), np.asarray(second.clip))
