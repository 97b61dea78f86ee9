"""A classifier judged at every observed fraction of the clips, or once where the protocol knows no fractions."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.data.config import DataConfig
from vidkd.data.manifest import Clip
from vidkd.data.observation import is_shortened
from vidkd.engine.clips import Clips
from vidkd.engine.evaluate import HELD, PREDICTION_COLUMNS, Predictions, evaluate, predictions_as_rows
from vidkd.engine.setup import evaluation_set
from vidkd.models import VideoClassifier
from vidkd.models.exported import ExportedModule

MAIN_METRIC = "top1"


@dataclass(frozen=True)
class Judgement:
    """Predictions of the same clips at rising observed fractions; {None: predictions} where there are none.

    unobservable: clips of the subset of which nothing can be observed, at one of the fractions at least; they are in no prediction.
    shortened: how many clips' files begin after the part that should have been observed, so that less was.
    """

    at: Mapping[float | None, Predictions]
    unobservable: Sequence[Clip] = ()
    shortened: int = 0

    @property
    def fullest(self) -> Predictions:
        """The predictions that saw most."""
        return list(self.at.values())[-1]

    @property
    def fractions(self) -> list[float]:
        """The observed fractions, rising; none where the protocol knows none."""
        return [fraction for fraction in self.at if fraction is not None]

    def metrics(self) -> dict[str, float]:
        """Every metric as its mean over the fractions; then top1 at each (`top1@obs20`), and the area under that curve (`top1_area`).

        The area is the trapezoid rule's, divided by the range of fractions: a mean accuracy again, which counts the ends half.
        Raises DataError if no clip has a label.
        """
        found = {fraction: predictions.metrics(self.unobservable) for fraction, predictions in self.at.items()}
        means = {name: float(np.mean([metrics[name] for metrics in found.values()])) for name in next(iter(found.values()))}
        if not self.fractions:
            return means
        curve = [found[fraction][MAIN_METRIC] for fraction in self.fractions]
        each = {f"{MAIN_METRIC}@{observed_name(fraction)}": value for fraction, value in zip(self.fractions, curve, strict=True)}
        return {**means, **each, f"{MAIN_METRIC}_area": area(self.fractions, curve)}

    def as_rows(self) -> dict[str, Any]:
        """Compact per-clip predictions for a study's cell; with fractions, `predicted@obs20` beside what saw most."""
        rows = predictions_as_rows(self.fullest)
        for fraction in self.fractions:
            rows[predicted_name(fraction)] = self.at[fraction].predicted.tolist()
        return rows

    def write_csv(self, path: Path) -> None:
        """As `Predictions.write_csv`; with fractions, all one after the other and the fraction in a column `observed`."""
        if not self.fractions:
            self.fullest.write_csv(path)
            return
        with atomic_write(path) as file:
            writer = csv.writer(file)
            writer.writerow([*PREDICTION_COLUMNS, "observed", *self.fullest.further_columns])
            for fraction in self.fractions:
                for row in self.at[fraction].rows():
                    head = len(PREDICTION_COLUMNS)
                    writer.writerow([*row[:head], f"{fraction:g}", *row[head:]])

    def remarks(self) -> list[str]:
        """What a reader of the numbers has to know: `remarks_on` the counts."""
        return remarks_on(self.counts())

    def counts(self) -> dict[str, int]:
        """How many clips were judged, were unobservable, shortened, and held (frames repeat); with fractions `held@obs20` for each."""
        held = {held_name(fraction): predictions.held for fraction, predictions in self.at.items()}
        return {"clips": len(self.fullest.clips), "unobservable": len(self.unobservable), "shortened": self.shortened, **held}


def remarks_on(counts: Mapping[str, int]) -> list[str]:
    """Clips of which nothing or less was observed, and parts so short that frames were repeated, in words; counts: `Judgement.counts`."""
    lines = [f"{counts['unobservable']} clips are not judged: nothing of them can be observed"] if counts["unobservable"] else []
    if counts["shortened"]:
        lines.append(f"of {counts['shortened']} clips less than data.observe.observe_s was observed: their files begin later")
    for name, held in counts.items():
        kind, _, condition = name.partition("@")
        if kind == HELD and held:
            where = f" at {condition.removeprefix('obs')} % observed" if condition else ""
            lines.append(f"{held} of {counts['clips']} clips{where} have fewer frames than the window: frames repeat")
    return lines


def held_name(fraction: float | None) -> str:
    """The count of clips in which frames repeat: held, or at an observed fraction held@obs20."""
    return HELD if fraction is None else f"{HELD}@{observed_name(fraction)}"


def observed_name(fraction: float) -> str:
    """The condition in a metric's name: obs20 for 0.2."""
    return f"obs{100 * fraction:g}"


def predicted_name(fraction: float) -> str:
    """The rows of predictions at an observed fraction: predicted@obs20."""
    return f"predicted@{observed_name(fraction)}"


def area(fractions: Sequence[float], values: Sequence[float]) -> float:
    """Area under a curve over observed fractions by the trapezoid rule, divided by their range; the value itself for a single point."""
    return float(area_weights(fractions) @ np.asarray(values, dtype=np.float64))


def area_weights(fractions: Sequence[float]) -> NDArray[np.float64]:
    """What each point of the curve counts in `area`, summing to one."""
    if len(fractions) == 1:
        return np.ones(1)
    widths = np.diff(fractions)
    return np.asarray((np.append(widths, 0) + np.append(0, widths)) / 2 / widths.sum(), np.float64)


def judge(
    model: VideoClassifier | ExportedModule,
    clips: Clips,
    subset: str,
    data: DataConfig,
    classes: Sequence[str],
    *,
    device: torch.device,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    progress: str = "",
) -> Judgement:
    """Judge on a subset at every fraction of `data.observe`, at all of them the same clips. progress: see `evaluate`.

    Raises what `evaluate` raises, and DataError for a subset without clips, or of which nothing can be observed.
    """
    at: dict[float | None, Predictions] = {}
    for fraction in data.observe.judged_fractions:
        at[fraction] = evaluate(
            model,
            evaluation_set(clips, subset, data, [model.view], fraction=fraction),
            classes,
            device=device,
            batch_size=data.batch_size,
            workers=workers,
            rank=rank,
            world_size=world_size,
            target_classes=clips.manifest.targets,
            progress=progress and (progress if fraction is None else f"{progress}, {100 * fraction:g} % observed"),
        )
        if not at[fraction].clips:
            raise DataError(
                f"of no '{subset}' clip anything can be observed", observed=fraction if fraction is not None else "before the gap"
            )
        # fractions rise, and more is observed at a larger one: what the first leaves out is all that is ever left out
        clips = clips.without(subset, at[fraction].unobservable)
    shortened = sum(is_shortened(clip, data.observe) for clip in clips.subset(subset, data.split))
    return Judgement(at, clips.unobservable.get(subset, ()), shortened)
