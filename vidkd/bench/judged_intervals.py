"""95 % intervals of what one evaluation found, over other test groups: what `vidkd evaluate` prints with every metric."""

from collections.abc import Mapping
from dataclasses import dataclass

from vidkd.bench.clip_summary import as_cell
from vidkd.bench.intervals import bootstrap_ci
from vidkd.bench.speed.draws import BLOCK, clip_draws, frame_draws, frame_groups, metric_interval
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.evaluate import BoxJudgement
from vidkd.engine.evaluate import MAIN_METRIC, Judgement


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """ci95: by metric, without those that cannot be known, which are all where there is one group. over: what was resampled, in words."""

    ci95: Mapping[str, tuple[float, float]]
    over: str


def clip_intervals(judgement: Judgement) -> Intervals:
    """Of a classifier's metrics, over groups of clips, those of which nothing can be observed among them."""
    found = {name: metric_interval(name, values) for name, values in clip_draws(judgement).items()}
    if not judgement.fractions:  # of one prediction a clip: that of studies, of many more draws
        cell = as_cell({"seed": 0, "place": "all", "predictions": judgement.as_rows()})
        found[MAIN_METRIC] = bootstrap_ci([cell], over=("groups",)).ci95
    groups = {clip.group for clip in (*judgement.fullest.clips, *judgement.unobservable)}
    return _known(found, f"{len(groups)} test groups")


def frame_intervals(judgement: BoxJudgement, truth: BoxManifest) -> Intervals:
    """Of a detector's metrics, over groups of the frames that were judged, or stretches of them where there is one group."""
    drawn, frames = frame_draws(judgement, truth), [frame for frame in truth.frames if frame.key in judgement.detections]
    one = len({frame.group for frame in frames}) == 1
    over = f"{len(frame_groups(frames))} {f'stretches of {BLOCK} frames' if one else 'test groups'}"
    return _known({name: metric_interval(name, values) for name, values in drawn.items()}, over)


def _known(found: Mapping[str, tuple[float, float] | None], over: str) -> Intervals:
    return Intervals(ci95={name: bounds for name, bounds in found.items() if bounds is not None}, over=over)
