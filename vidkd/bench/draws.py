"""What models would have scored on other groups of clips or frames: resampled, with every metric worked out again.

All models that were judged on the same clips or frames see the same draws, in this run and in any other, so they are compared draw by draw.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.bench.clip_summary import as_cell
from vidkd.bench.intervals import bootstrap_ci, factor_of
from vidkd.data.manifest import Clip
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.evaluate import BoxJudgement
from vidkd.detection.metrics import METRICS, FrameRecall, drawn_precision
from vidkd.engine.evaluate import MAIN_METRIC, Judgement

DRAWS = 200
"""Of metrics that are recomputed for each."""
RECALL_DRAWS = 2000
BLOCK = 50
"""Frames of a stretch that is resampled as a whole, where all are of one group."""
Draws = dict[str, NDArray[np.float64]]
"""Metrics by name, (draws,) each, stretched about the figure itself for as few groups as there are, so that their percentiles, and those of
differences between two models, bound a 95 % interval; empty with one group. Stretched draws may leave the range of the metric: a difference
is taken of them unclipped, and only the interval of one model is cut to what is possible (`metric_interval`)."""


def metric_interval(metric: str, drawn: NDArray[np.float64], *, signed: bool = False) -> tuple[float, float] | None:
    """The 95 % interval of a metric of one model, (draws,), within its range: [0, 1], of a log-likelihood from 0; None without a draw.

    signed: of a difference between two models, which lies in [-1, 1].
    """
    if not len(drawn):
        return None
    most = np.inf if metric.partition("@")[0].endswith("nll") else 1.0
    low, high = np.clip(np.quantile(drawn, [0.025, 0.975]), -most if signed else 0.0, most)
    return float(low), float(high)


def clip_draws(judgement: Judgement, *, seed: int = 0) -> Draws:
    """Groups of clips are resampled, those of which nothing can be observed among them; draws without a labelled clip are left out, and
    metrics that a draw does not have.
    """
    rows: dict[str, list[int]] = {}
    lost: dict[str, list[Clip]] = {}
    for number, clip in enumerate(judgement.fullest.clips):
        rows.setdefault(clip.group, []).append(number)
    for clip in judgement.unobservable:
        lost.setdefault(clip.group, []).append(clip)
    groups = list(dict.fromkeys((*rows, *lost)))
    rng, found = np.random.default_rng(seed), []
    for _ in range(DRAWS if len(groups) > 1 else 0):
        names = [groups[number] for number in rng.integers(0, len(groups), len(groups))]
        clips = np.array([number for name in names for number in rows.get(name, ())], np.int64)
        # only the labels decide what is left out, so the draws of several models correspond
        if len(clips) and (judgement.fullest.labels[clips] >= 0).any():
            found.append(_of_clips(judgement, clips, [clip for name in names for clip in lost.get(name, ())]).metrics())
    in_all = [name for name in found[0] if all(name in drawn for drawn in found)] if found else []
    return _stretched({name: np.array([drawn[name] for drawn in found]) for name in in_all}, judgement.metrics(), len(groups))


def _of_clips(judgement: Judgement, rows: NDArray[np.int64], unobservable: Sequence[Clip]) -> Judgement:
    at = {
        fraction: dataclasses.replace(
            one,
            probabilities=one.probabilities[rows],
            clips=[one.clips[number] for number in rows],
            targets={name: values[rows] for name, values in one.targets.items()},
        )
        for fraction, one in judgement.at.items()
    }
    return Judgement(at, unobservable, judgement.shortened)


def frame_draws(judgement: BoxJudgement, truth: BoxManifest, *, seed: int = 0) -> Draws:
    """Groups of the frames that were judged are resampled, with the average precision of each draw that has a box, or the recall.

    The main metric comes first. truth: what holds these frames, and others or not.
    """
    if isinstance(judgement.found, FrameRecall):
        return _recall_draws(judgement.found, truth, seed)
    frames = [frame for frame in truth.frames if frame.complete]
    group_N = _group_numbers(frames)
    count = group_N.max() + 1
    if count < 2 or not judgement.found.counts["boxes"]:
        return {}
    rng = np.random.default_rng(seed)
    drawn = np.stack([np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(DRAWS)])
    found = drawn_precision(dataclasses.replace(truth, frames=tuple(frames)), judgement.detections, drawn[:, group_N])
    known = ~np.isnan(found[METRICS[0]])  # only the truth decides, as above
    return _stretched({name: found[name][known] for name in METRICS}, judgement.found.metrics(), count)


def _recall_draws(recall: FrameRecall, truth: BoxManifest, seed: int) -> Draws:
    """Where a video lies in several blocks, it counts in `recall50_video` as often as they were drawn on average, with what they hold."""
    by_key = {frame.key: frame for frame in truth.frames}
    frames = [by_key[key] for key in recall.keys]
    group_N = _group_numbers(frames)
    count = int(group_N.max()) + 1
    if count < 2:
        return {}
    _, video_N = np.unique([frame.path for frame in frames], return_inverse=True)
    # parts: what one group holds of one video
    (group_P, video_P), part_N = np.unique(np.stack([group_N, video_N.ravel()]), axis=1, return_inverse=True)
    found_P, objects_P = (np.bincount(part_N.ravel(), weights=counts) for counts in (recall.found, recall.objects))
    times_DP = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RECALL_DRAWS)[:, group_P]
    of_video_PV = np.eye(video_P.max() + 1)[video_P]
    found_DV, objects_DV, drawn_DV = ((times_DP * each) @ of_video_PV for each in (found_P, objects_P, 1.0))
    weight_DV = drawn_DV / of_video_PV.sum(axis=0)
    by_video = (weight_DV * found_DV / np.maximum(objects_DV, 1)).sum(axis=1) / weight_DV.sum(axis=1)
    pooled = found_DV.sum(axis=1) / objects_DV.sum(axis=1)
    return _stretched({"recall50": pooled, "recall50_video": by_video}, recall.metrics(), count)


def frame_groups(frames: Sequence[LabelledFrame]) -> list[list[LabelledFrame]]:
    """Frames by group; if there is only one group, by stretches of BLOCK frames of its videos, or so many images."""
    one = len({frame.group for frame in frames}) == 1
    found: dict[tuple[str, int], list[LabelledFrame]] = {}
    for number, frame in enumerate(frames):
        index, path = (number, "") if frame.frame_index is None else (frame.frame_index, frame.path)
        found.setdefault((path, index // BLOCK) if one else (frame.group, 0), []).append(frame)
    return list(found.values())


def _group_numbers(frames: Sequence[LabelledFrame]) -> NDArray[np.int64]:
    """(N,) the number of each frame's group in `frame_groups`."""
    number = {id(frame): number for number, group in enumerate(frame_groups(frames)) for frame in group}
    return np.array([number[id(frame)] for frame in frames])


def _stretched(drawn: Draws, figures: Mapping[str, float], groups: int) -> Draws:
    """See `Draws`."""
    about = {name: figures.get(name, float(np.mean(values))) for name, values in drawn.items()}
    return {name: about[name] + (values - about[name]) * factor_of(groups) for name, values in drawn.items()}


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
