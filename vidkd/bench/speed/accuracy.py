"""How good the models of a benchmark are: judged by the engine, and by the metrics of detection, with intervals over test groups."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import torch

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench.clip_summary import as_cell
from vidkd.bench.intervals import Cell, bootstrap_ci, paired_difference
from vidkd.bench.observed import ACCURACY
from vidkd.bench.speed.config import DataSpec
from vidkd.bench.speed.draws import Drawn, Draws, JudgedOn, clip_draws, clips_identity, frame_draws, metric_interval, recall_draws
from vidkd.bench.speed.opening import OpenModel, autocast
from vidkd.bench.speed.statistics import Figure
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.learned_from import check_unseen
from vidkd.data.manifest import Clip
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.config import BoxDataConfig
from vidkd.detection.evaluate import judge_detector, judge_recall
from vidkd.detection.frames import check_set_of_frames, frames_identity, read_frames
from vidkd.engine.clips import Clips, manifest_of, read_clips
from vidkd.engine.evaluate import Judgement, judge
from vidkd.models.exported import ExportedModule
from vidkd.runtime.clip_classifier import ExportedClassifier

JUDGED_SCORE = 0.25
"""From which score on a box counts where not every object has its box."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """metrics: by name, the main one first. on: what was judged, in words. counts: of it. unobservable: clips of the subset that were not.

    fractions: observed shares of a clip whose answers the metrics are the mean over; the last is what is timed. None where there is one.

    By these models are compared in pairs: cell: per-clip scores of a classifier. drawn: draws of groups of clips or frames.
    """

    metrics: Mapping[str, Figure]
    cell: Cell | None
    on: str
    counts: Mapping[str, int] = field(default_factory=dict)
    drawn: Drawn | None = None
    unobservable: Sequence[Clip] = ()
    fractions: Sequence[float] = ()


def check_data_set(spec: DataSpec, *, detectors: bool, given: str = "") -> None:
    """Raise ConfigError or DataError for a data set that is not named or not there, as its readers do; what is in it they tell.

    detectors: whether these are benchmarked; given: see `shown_clips`.
    """
    if detectors:
        check_set_of_frames(_frames_config(spec))
    else:
        manifest_of(DataConfig(root=spec.root, manifest=spec.manifest), given=given)


def shown_clips(opened: OpenModel, spec: DataSpec, given: str = "") -> tuple[DataConfig, Clips]:
    """How a classifier is shown the clips of a benchmark, and these: one window and one crop of each, which is what its latency buys.

    given: where data.root was set, for the message. Raises ConfigError and DataError as `read_clips` does, for classes that are not those
    that the classifier names, and for settings of annotated frames.
    """
    assert opened.data is not None
    if useless := spec.of_frames:
        raise ConfigError(f"data.{useless[0]} belongs to detectors; classifiers see clips", hint=f"leave out data.{useless[0]}")
    flow = opened.data.flow
    if flow.source == "stored" and spec.flow_folder is not None:
        flow = dataclasses.replace(flow, folder=spec.flow_folder)
    data = dataclasses.replace(
        opened.data,
        flow=flow,
        root=spec.root,
        manifest=spec.manifest,
        split=spec.split,
        validation_fraction=spec.validation_fraction,
        split_seed=spec.split_seed,
        label_fraction=1.0,
        unlabelled="none",
        unlabelled_manifest=None,
        eval_clips=1,
        eval_crops=1,
        cache=CacheConfig(),
        workers=0,
    )
    clips = read_clips(data, given=given)
    if opened.trained and clips.manifest.classes != opened.classes:
        raise DataError(
            f"classes that are not those of {clips.manifest.name}",
            model=", ".join(opened.classes[:6]),
            data_set=", ".join(clips.manifest.classes[:6]),
            hint="benchmark models of other classes apart, on their own data set",
        )
    if spec.subset != "train":
        for one in opened.streams or (opened,):
            check_unseen("it", one.learned, clips.manifest, spec.split, clips.subset(spec.subset, spec.split))
    return data, clips


def shown_frames(spec: DataSpec, *, runs: bool) -> BoxManifest:
    """The annotated frames that detectors are judged on. A set that names no subsets is all test, but not with `runs` among the detectors,
    which may have been trained on it.

    Raises ConfigError where none is named, or annotations in a layout that has its own; DataError for one that is not there or holds no
    frame.
    """
    found = read_frames(_frames_config(spec))
    truth = (found.subset if runs else found.subset_for_others)(spec.subset).thinned(spec.every)
    if not spec.paths:
        return truth
    chosen = tuple(frame for frame in truth.frames if any(fnmatchcase(frame.path, pattern) for pattern in spec.paths))
    if not chosen:
        raise DataError(f"no frame of {truth.name} is in data.paths", patterns=", ".join(spec.paths), first_path=truth.frames[0].path)
    return dataclasses.replace(truth, frames=chosen)


def _frames_config(spec: DataSpec) -> BoxDataConfig:
    return BoxDataConfig(
        root=spec.root,
        manifest=spec.manifest,
        layout=spec.layout,
        annotations=tuple(spec.annotations),
        classes=tuple(spec.classes),
        validation_fraction=spec.validation_fraction,
        split_seed=spec.split_seed,
    )


def judge_clips(opened: OpenModel, spec: DataSpec, data: DataConfig, clips: Clips, *, amp: str | None = None) -> Accuracy:
    """Top-1 and the other metrics of a classifier, with intervals over test groups; data and clips: of `shown_clips`."""
    if opened.streams:
        judgement = _mean_judgement([_judged(one, spec, data, clips, amp) for one in opened.streams])
    else:
        judgement = _judged(opened, spec, data, clips, amp)
    cell = as_cell({"seed": 0, "place": spec.split, "predictions": judgement.as_rows()})
    found, values = judgement.metrics(), clip_draws(judgement)
    top1 = Figure(value=found[ACCURACY], ci95=bootstrap_ci([cell], over=("groups",)).ci95, n=len(cell.correct))
    groups = len(set(cell.group.tolist()))
    fractions = tuple(fraction for fraction in data.observe.judged_fractions if fraction is not None)
    return Accuracy(
        metrics={ACCURACY: top1, **_further(found, values, ACCURACY, len(cell.correct))},
        cell=cell,
        on=f"{len(cell.correct)} clips of '{spec.subset}', {_windows(data)}, {groups} groups",
        counts=judgement.counts(),
        unobservable=judgement.unobservable,
        fractions=fractions if len(fractions) > 1 else (),
        drawn=Drawn(
            metric=ACCURACY,
            values=values,
            on=JudgedOn(samples=clips_identity(judgement.fullest.clips), classes=tuple(clips.manifest.classes)),
        ),
    )


def _further(found: Mapping[str, float], values: Draws, main: str, n: int) -> dict[str, Figure]:
    """All metrics but the main one, with the intervals that the draws tell."""
    bounds = {name: metric_interval(name, values[name]) if name in values else None for name in found}
    return {name: Figure(value=value, ci95=bounds[name], n=n) for name, value in found.items() if name != main}


def _windows(data: DataConfig) -> str:
    parts = len(data.observe.judged_fractions)
    return "one window and crop of each" + (f" at {parts} observed shares" if parts > 1 else "")


def _judged(opened: OpenModel, spec: DataSpec, data: DataConfig, clips: Clips, amp: str | None) -> Judgement:
    exported = isinstance(opened.model, ExportedClassifier)
    module = ExportedModule(opened.model) if exported else opened.model
    device = torch.device("cpu") if exported else next(opened.network.parameters()).device
    with autocast(amp, device.type) if not exported else contextlib.nullcontext():
        return judge(module, clips, spec.subset, data, opened.classes, device=device)


def _mean_judgement(pair: Sequence[Judgement]) -> Judgement:
    """Probabilities of both averaged, clip by clip; of the classes only, no further labels."""
    first, second = pair
    at = {
        fraction: dataclasses.replace(
            one, probabilities=(one.probabilities + second.at[fraction].probabilities) / 2, targets={}, target_classes={}
        )
        for fraction, one in first.at.items()
    }
    return dataclasses.replace(first, at=at)


def judge_frames(opened: OpenModel, truth: BoxManifest) -> Accuracy:
    """AP50 and the other metrics of detection, with intervals over groups of frames; recall where objects may lack their box."""
    if any(frame.complete for frame in truth.frames):
        judgement = judge_detector(opened.model, truth)
        found, frames, unknown = judgement.metrics(), judgement.precision.frames, judgement.unknown
        metric, values = "ap50", frame_draws(judgement, truth)
        counts = {name: getattr(judgement.precision, name) for name in ("frames", "boxes", "ignored", "incomplete")}
    else:
        recall = judge_recall(opened.model, truth, score=JUDGED_SCORE)
        found, frames, unknown = {"recall50": recall.metrics()["recall50"]}, len(recall.recall.keys), recall.unknown
        metric, values = "recall50", recall_draws(recall, truth)
        counts = {"frames": frames, "objects": int(recall.recall.objects.sum())}
    main = Figure(value=found[metric], ci95=metric_interval(metric, values.get(metric, np.zeros(0))), n=frames)
    judged = JudgedOn(
        samples=frames_identity(truth.classes, truth), classes=tuple(name for name in truth.classes if name not in set(unknown))
    )
    return Accuracy(
        metrics={metric: main, **_further(found, values, metric, frames)},
        cell=None,
        on=f"{frames} frames of {truth.name}",
        counts=counts,
        drawn=Drawn(metric=metric, values=values, on=judged),
    )


def check_same_kind(opened: Mapping[str, OpenModel]) -> None:
    """Raise ConfigError where classifiers and detectors stand in one benchmark: no figure of theirs can be compared."""
    kinds = {model.kind: label for label, model in opened.items()}
    if len(kinds) > 1:
        named = {f"a_{kind}": label for kind, label in kinds.items()}
        raise ConfigError("classifiers and detectors in one benchmark", **named, hint="benchmark them apart")


def difference(accuracy: Accuracy, base: Accuracy) -> tuple[str, Figure] | None:
    """The name of the main metric, and `accuracy` minus `base` in it with the interval over test groups.

    None where the two were not judged on the same clips, or not on the same frames and classes. The groups that are drawn are the same for
    both, so the interval is that of the differences within the draws; it is None with one group.
    """
    if accuracy.cell is not None and base.cell is not None and np.array_equal(np.asarray(accuracy.cell.clip), np.asarray(base.cell.clip)):
        found = paired_difference([accuracy.cell], [base.cell], over=("groups",))
        return ACCURACY, Figure(value=found.mean, ci95=found.ci95, n=found.cells)
    mine, other = accuracy.drawn, base.drawn
    if mine is None or other is None or mine.on != other.on:
        return None
    metric = mine.metric
    value = accuracy.metrics[metric].value - base.metrics[metric].value
    drawn = mine.values[metric] - other.values[metric] if metric in mine.values else np.zeros(0)
    return metric, Figure(value=value, ci95=metric_interval(metric, drawn, signed=True))
