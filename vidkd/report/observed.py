"""What a run's page says of early recognition and anticipation: accuracy at every observed fraction, and who saw what."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidkd.bench.intervals import Cell, Interval, bootstrap_ci
from vidkd.bench.observed import ACCURACY, AREA, clip_scores, mean_name
from vidkd.engine.evaluate import predicted_name
from vidkd.report.figures import accuracy_by_condition
from vidkd.report.parts import Estimate, Figure, Table, TableCell
from vidkd.report.predictions import Judged

SHARE_WORDS = "share of the clip observed (%)"


def share(fraction: float | None) -> str:
    """An observed fraction as a reader has it: `20 % observed`; "" for whole clips."""
    return "" if fraction is None else f"{100 * fraction:g} % observed"


def observed_scores(judged: Mapping[float | None, Judged], metric: str) -> Interval:
    """A metric of `clip_scores` over the clips of all fractions, with its 95 % interval over test groups."""
    first = next(iter(judged.values()))
    rows = {predicted_name(fraction): found.predicted for fraction, found in judged.items() if fraction is not None}
    scores = clip_scores({"label": first.labels, **rows}, metric)
    return bootstrap_ci([Cell(seed=0, place="all", correct=scores, group=first.groups)], over=("groups",))


def observed_table(judged: Mapping[float | None, Judged]) -> Table:
    """Top-1 at every fraction, the mean over them and the area under their curve, each with its interval."""
    names = {f"{100 * fraction:g} %": mean_name([fraction]) for fraction in judged if fraction is not None}
    found = {shown: observed_scores(judged, metric) for shown, metric in {**names, "mean": ACCURACY, "area": AREA}.items()}
    clips = len(next(iter(judged.values())).labels)
    rows: list[tuple[TableCell, ...]] = [(shown, _estimate(interval), clips) for shown, interval in found.items()]
    caption = (
        "In brackets the 95 % interval over test groups. Mean: over the rows above. Area: under the curve by the trapezoid rule, divided "
        "by the range of the shares, so that the two ends count half."
    )
    note = next(iter(found.values())).note
    return Table(title="Top-1 by observed share", columns=("observed", "top1 (%)", "clips"), rows=tuple(rows), caption=note or caption)


def observed_curve(judged: Mapping[float | None, Judged]) -> Figure:
    """Accuracy against the observed share, with its interval at every fraction."""
    points = {100 * fraction: _estimate(observed_scores(judged, mean_name([fraction]))) for fraction in judged if fraction is not None}
    return accuracy_by_condition({ACCURACY: points}, title="Accuracy by observed share", condition=SHARE_WORDS)


def _estimate(interval: Interval) -> Estimate:
    return Estimate(value=interval.mean, ci95=interval.ci95)


def remark_notes(remarks: Sequence[str]) -> dict[str, str]:
    """What is to be known of the judged clips (`Judgement.remarks`) as a fact for the head of a page; none where there is nothing."""
    return {"note": "; ".join(remarks)} if remarks else {}


def observation_notes(config: Mapping[str, Any]) -> dict[str, str]:
    """The protocol, what student and teacher see, and in how many frames, from the content of a run's config.yaml.

    Empty where both see the whole clip, and for a file that does not say.
    """
    data = config.get("data")
    observe, window = (data.get(key) for key in ("observe", "window")) if isinstance(data, Mapping) else (None, None)
    if not isinstance(observe, Mapping) or observe.get("protocol") not in ("early", "anticipation"):
        return {}
    frames = window.get("frames") if isinstance(window, Mapping) else None
    taught = bool(config.get("teacher") or config.get("teacher_settings"))
    protocol, student, teacher = _early(observe) if observe["protocol"] == "early" else _anticipation(observe)
    notes = {"protocol": protocol, "student sees": _with_frames(student, frames)}
    return {**notes, "teacher sees": _with_frames(teacher, observe.get("teacher_frames") or frames)} if taught else notes


_TEACHER_SEES = {"rest": "the rest of the clip", "same": "the same part"}


def _early(observe: Mapping[str, Any]) -> tuple[str, str, str]:
    percents = ", ".join(f"{100 * fraction:g}" for fraction in observe.get("fractions") or ())
    teacher = _TEACHER_SEES.get(str(observe.get("teacher_sees")), "the whole clip")
    return f"early recognition at {percents} %", "the clip's first part", teacher


def _anticipation(observe: Mapping[str, Any]) -> tuple[str, str, str]:
    seconds = observe.get("observe_s")
    student = "all that came before the gap" if seconds is None else f"{seconds:g} s before the gap"
    return f"anticipation, {observe.get('gap_s', np.nan):g} s before the action", student, "the action"


def _with_frames(part: str, frames: int | None) -> str:
    return part if frames is None else f"{part}, {frames} frames"
