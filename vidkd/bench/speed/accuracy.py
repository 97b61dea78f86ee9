"""How good the models of a benchmark are: judged by the engine, and by the metrics of detection, with intervals over test groups."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import torch

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench.clip_summary import as_cell
from vidkd.bench.draws import Draws, clip_draws, frame_draws, metric_interval
from vidkd.bench.intervals import Cell, bootstrap_ci, paired_difference
from vidkd.bench.speed.config import DataSpec
from vidkd.bench.speed.opening import OpenModel
from vidkd.bench.speed.rounds import Figure
from vidkd.bench.summary import ACCURACY
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.learned_from import check_unseen
from vidkd.data.manifest import Clip
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.config import BoxDataConfig
from vidkd.detection.evaluate import judge_boxes
from vidkd.detection.frames import check_set_of_frames, frames_identity, read_frames
from vidkd.engine.clips import Clips, manifest_of, read_clips
from vidkd.engine.evaluate import Judgement, judge, mean_judgement
from vidkd.models.saved import ExportedModule
from vidkd.runtime.clip_classifier import ExportedClassifier

JUDGED_SCORE = 0.25
"""From which score on a box counts where not every object has its box."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """metrics: by name, the main one first. on: what was judged, in words. unobservable: clips of the subset that could not be judged.

    fractions: observed shares of a clip whose answers the metrics are the mean over; the last is what is timed. Empty where there is one.
    By these models are compared in pairs: cell: per-clip scores of a classifier. draws: of a detector's metrics; samples: a hash of the
    annotated frames, and those of their classes that it has.
    """

    metrics: Mapping[str, Figure]
    on: str
    unobservable: Sequence[Clip] = ()
    fractions: Sequence[float] = ()
    cell: Cell | None = None
    draws: Draws = field(default_factory=dict)
    samples: tuple[str, ...] = ()


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
    data = dataclasses.replace(
        opened.data,
        root=spec.root,
        manifest=spec.manifest,
        split=spec.split,
        validation_fraction=spec.validation_fraction,
        split_seed=spec.split_seed,
        label_fraction=1.0,
        labels_per_class=None,
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
    truth = (found.subset if runs else found.subset_for_others)(spec.subset)
    if not spec.paths:
        return truth
    chosen = tuple(frame for frame in truth.frames if any(fnmatchcase(frame.path, pattern) for pattern in spec.paths))
    if not chosen:
        raise DataError(f"no frame of {truth.name} is in data.paths", patterns=", ".join(spec.paths), first_path=truth.frames[0].path)
    return dataclasses.replace(truth, frames=chosen)


def _frames_config(spec: DataSpec) -> BoxDataConfig:
    return BoxDataConfig(
        root=spec.root,
        layout=spec.layout,
        annotations=tuple(spec.annotations),
        classes=tuple(spec.classes),
        validation_fraction=spec.validation_fraction,
        split_seed=spec.split_seed,
    )


def judge_clips(opened: OpenModel, spec: DataSpec, data: DataConfig, clips: Clips) -> Accuracy:
    """Top-1 and the other metrics of a classifier, with intervals over test groups; data and clips: of `shown_clips`."""
    judgement = mean_judgement([_judged(one, spec, data, clips) for one in opened.streams or (opened,)])
    cell = as_cell({"seed": 0, "place": spec.split, "predictions": judgement.as_rows()})
    top1 = bootstrap_ci([cell], over=("groups",))
    fractions = tuple(fraction for fraction in data.observe.judged_fractions if fraction is not None)
    parts = f" at {len(fractions)} observed shares" if len(fractions) > 1 else ""
    return Accuracy(
        metrics=_figures(judgement.metrics(), clip_draws(judgement), ACCURACY, len(cell.correct), top1.ci95),
        on=f"{len(cell.correct)} clips of '{spec.subset}', one window and crop of each{parts}, {top1.units} groups",
        unobservable=judgement.unobservable,
        fractions=fractions if len(fractions) > 1 else (),
        cell=cell,
    )


def _figures(found: Mapping[str, float], draws: Draws, main: str, n: int, of_main: tuple[float, float] | None) -> dict[str, Figure]:
    """All metrics, the main one with this interval first, the others with those of the draws."""
    further = {name: Figure(value=value, ci95=metric_interval(name, draws.get(name, np.zeros(0))), n=n) for name, value in found.items()}
    return {main: Figure(value=found[main], ci95=of_main, n=n)} | {name: figure for name, figure in further.items() if name != main}


def _judged(opened: OpenModel, spec: DataSpec, data: DataConfig, clips: Clips) -> Judgement:
    exported = isinstance(opened.model, ExportedClassifier)
    module = ExportedModule(opened.model) if exported else opened.model
    device = torch.device("cpu") if exported else next(opened.network.parameters()).device
    return judge(module, clips, spec.subset, data, opened.classes, device=device, last_only=True)


def judge_frames(opened: OpenModel, truth: BoxManifest) -> Accuracy:
    """AP50 and the other metrics of detection, with intervals over groups of frames; recall where objects may lack their box."""
    judgement = judge_boxes(opened.model, truth, score=JUDGED_SCORE)
    found = {name: value for name, value in judgement.found.metrics().items() if name != "recall50_video"}
    main, draws, frames = next(iter(found)), frame_draws(judgement, truth), int(judgement.found.counts["frames"])
    return Accuracy(
        metrics=_figures(found, draws, main, frames, metric_interval(main, draws.get(main, np.zeros(0)))),
        on=f"{frames} frames of {truth.name}",
        draws=draws,
        samples=(frames_identity(truth.classes, truth), *(name for name in truth.classes if name not in judgement.unknown)),
    )


def difference(accuracy: Accuracy, base: Accuracy) -> tuple[str, Figure] | None:
    """The name of the main metric, and `accuracy` minus `base` in it with the interval over test groups.

    None where the two were not judged on the same clips, or not on the same frames and classes. The groups that are drawn are the same for
    both, so the interval is that of the differences within the draws; it is None with one group.
    """
    metric = next(iter(accuracy.metrics))
    if accuracy.cell is not None and base.cell is not None:
        if not np.array_equal(np.asarray(accuracy.cell.clip), np.asarray(base.cell.clip)):
            return None
        found = paired_difference([accuracy.cell], [base.cell], over=("groups",))
        return metric, Figure(value=found.mean, ci95=found.ci95, n=found.cells)
    if accuracy.samples != base.samples:
        return None
    value = accuracy.metrics[metric].value - base.metrics[metric].value
    drawn = accuracy.draws[metric] - base.draws[metric] if metric in accuracy.draws else np.zeros(0)
    return metric, Figure(value=value, ci95=metric_interval(metric, drawn, signed=True))
