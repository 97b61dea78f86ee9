"""What the models of a benchmark would have scored on other groups of clips or frames: resampled, with every metric worked out again.

All models that were judged on the same clips or frames see the same draws, in this run and in any other, so they are compared draw by draw.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.bench.speed.statistics import percentile_interval
from vidkd.bench.widening import factor_of
from vidkd.data.manifest import Clip
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.evaluate import METRICS, DetectorJudgement, RecallJudgement
from vidkd.detection.metrics import drawn_precision
from vidkd.engine.evaluate import Judgement

DRAWS = 200
"""Of metrics that are recomputed for each."""
RECALL_DRAWS = 2000
BLOCK = 50
"""Frames of a stretch that is resampled as a whole, where all are of one group."""
Draws = dict[str, NDArray[np.float64]]
"""Metrics by name, (draws,) each, stretched about the figure itself for as few groups as there are, so that their percentiles, and those of
differences between two models, bound a 95 % interval; empty with one group. Stretched draws may leave the range of the metric: a difference
is taken of them unclipped, and only the interval of one model is cut to what is possible (`metric_interval`)."""


@dataclass(frozen=True, kw_only=True)
class JudgedOn:
    """What a model was judged on. samples: a hash of what the clips or annotated frames say. classes: those of theirs that it has."""

    samples: str
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawn:
    """Every metric in each draw of groups, see `Draws`. metric: the main one."""

    metric: str
    values: Mapping[str, NDArray[np.float64]]
    on: JudgedOn


def metric_interval(metric: str, drawn: NDArray[np.float64], *, signed: bool = False) -> tuple[float, float] | None:
    """The 95 % interval of a metric of one model, (draws,), within its range: [0, 1], of a log-likelihood from 0; None without a draw.

    signed: of a difference between two models, which lies in [-1, 1].
    """
    bounds = percentile_interval(drawn)
    if bounds is None:
        return None
    most = np.inf if metric.partition("@")[0].endswith("nll") else 1.0
    low, high = np.clip(bounds, -most if signed else 0.0, most)
    return float(low), float(high)


def clips_identity(clips: Sequence[Clip]) -> str:
    """A hash of which clips these are, in which order, with which labels and groups."""
    rows = [(clip.path, clip.start_s, clip.end_s, clip.group, clip.label, sorted(clip.targets.items())) for clip in clips]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


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
    if len(groups) < 2:
        return {}
    rng, found = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        names = [groups[number] for number in rng.integers(0, len(groups), len(groups))]
        clips = np.array([number for name in names for number in rows.get(name, ())], np.int64)
        # only the labels decide what is left out, so the draws of several models correspond
        if len(clips) and (judgement.fullest.labels[clips] >= 0).any():
            found.append(_of_clips(judgement, clips, [clip for name in names for clip in lost.get(name, ())]).metrics())
    return _stretched(_side_by_side(found), judgement.metrics(), len(groups))


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


def frame_draws(judgement: DetectorJudgement, truth: BoxManifest, *, seed: int = 0) -> Draws:
    """Groups of complete frames are resampled, with the average precision of each draw that has a box."""
    frames = [frame for frame in truth.frames if frame.complete]
    groups = frame_groups(frames)
    if len(groups) < 2 or judgement.precision.ap50 is None:
        return {}
    group_of = {id(frame): number for number, group in enumerate(groups) for frame in group}
    rng = np.random.default_rng(seed)
    drawn = np.stack([np.bincount(rng.integers(0, len(groups), len(groups)), minlength=len(groups)) for _ in range(DRAWS)])
    times = drawn[:, [group_of[id(frame)] for frame in frames]]
    found = drawn_precision(dataclasses.replace(truth, frames=tuple(frames)), judgement.detections, times)
    told = ~np.isnan(found[METRICS[0]])  # only the truth decides, as above
    return _stretched({name: found[name][told] for name in METRICS}, judgement.metrics(), len(groups))


def recall_draws(judgement: RecallJudgement, truth: BoxManifest, *, seed: int = 0) -> Draws:
    """Groups of the frames that were judged are resampled, as `frame_draws` draws them. truth: what holds these frames, and others or not.

    Where a video lies in several blocks, it counts in `recall50_video` as often as they were drawn on average, with what they hold.
    """
    by_key = {frame.key: frame for frame in truth.frames}
    frames = [by_key[key] for key in judgement.recall.keys]
    groups = frame_groups(frames)
    if len(groups) < 2:
        return {}
    group_of = {id(frame): number for number, group in enumerate(groups) for frame in group}
    paths = {path: number for number, path in enumerate(dict.fromkeys(frame.path for frame in frames))}
    # parts: what one group holds of one video
    parts, part_of = np.unique([(group_of[id(frame)], paths[frame.path]) for frame in frames], axis=0, return_inverse=True)
    group, path = parts.T
    found, objects = (np.bincount(part_of.ravel(), weights=counts) for counts in (judgement.recall.found, judgement.recall.objects))
    pooled, by_video = [], []
    for times in np.random.default_rng(seed).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=RECALL_DRAWS):
        drawn = times[group]
        found_of, objects_of, drawn_of = (np.bincount(path, weights=drawn * each) for each in (found, objects, np.ones(len(parts))))
        weights = drawn_of / np.bincount(path)
        pooled.append(found_of.sum() / objects_of.sum())
        by_video.append((weights * found_of / np.maximum(objects_of, 1)).sum() / weights.sum())
    return _stretched({"recall50": np.array(pooled), "recall50_video": np.array(by_video)}, judgement.metrics(), len(groups))


def frame_groups(frames: Sequence[LabelledFrame]) -> list[list[LabelledFrame]]:
    """Frames by group; if there is only one group, by stretches of BLOCK frames of its videos, or so many images."""
    one = len({frame.group for frame in frames}) == 1
    found: dict[tuple[str, int], list[LabelledFrame]] = {}
    for number, frame in enumerate(frames):
        place = number if frame.frame_index is None else frame.frame_index
        found.setdefault((frame.path if frame.frame_index is not None else "", place // BLOCK) if one else (frame.group, 0), []).append(
            frame
        )
    return list(found.values())


def _side_by_side(found: Sequence[Mapping[str, float]]) -> Draws:
    """Of the metrics that all draws have."""
    names = [name for name in found[0] if all(name in drawn for drawn in found)] if found else []
    return {name: np.array([drawn[name] for drawn in found]) for name in names}


def _stretched(drawn: Draws, figures: Mapping[str, float], groups: int) -> Draws:
    """See `Draws`."""
    factor, found = factor_of(groups), {}
    for name, values in drawn.items():
        about = figures.get(name, float(np.mean(values)))
        found[name] = about + (values - about) * factor
    return found
