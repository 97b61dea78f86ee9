"""From a configuration to the parts of a run: clips, data sets, networks, task."""

import dataclasses
import logging
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler

from vidkd.base.errors import CheckpointError, DataError
from vidkd.base.settings import place_of
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.learned_from import SETTINGS, LearnedFrom, check_unseen, record_of
from vidkd.data.loaders import Item, MixedSampler, StepSampler, batch_parts
from vidkd.engine.checkpoint import warn_if_unfinished
from vidkd.engine.clips import Clips
from vidkd.engine.config import RunConfig, load_config
from vidkd.models import VideoClassifier
from vidkd.models.changes import apply_changes
from vidkd.models.saved import classifier_payload, load_classifier, read_checkpoint
from vidkd.models.weights import provenance
from vidkd.tasks import Task, build_task

log = logging.getLogger(__name__)


def check_trains(clips: Clips, config: RunConfig) -> None:
    """Raise DataError if there is no labelled clip to train on, with the cause: nothing can be observed of any, or there is none."""
    if clips.train:
        return
    split, unseen = config.data.split, len(clips.unobservable.get("train", ()))
    if unseen:
        raise DataError(
            f"split '{split}' has no labelled training clip of which anything can be observed",
            where=place_of(config, "data.observe.protocol"),
            reason=f"{unseen} of {unseen} begin less than data.observe.gap_s ({config.data.observe.gap_s:g} s) after their file does: "
            "the gap leaves nothing to observe",
            hint="--data.observe.protocol early, for trimmed clips; or a manifest of actions in uncut videos",
        )
    raise DataError(
        f"split '{split}' has no labelled training clips",
        hint=f"rows with a label that are `train` in split '{split}', or another --data.split",
    )


def training_set(clips: Clips, config: RunConfig, views: Sequence[str]) -> ClipDataset:
    """The training clips as samples, the labelled ones first."""
    check_trains(clips, config)
    return ClipDataset(
        clips.manifest.root,
        [*clips.train, *clips.unlabelled],
        config.data,
        views=views,
        training=True,
        seed=config.data.split_seed if config.data.features.views else config.train.seed,
        may_flip=clips.manifest.horizontal_flip,
        targets=tuple(clips.manifest.targets),
    )


def evaluation_set(clips: Clips, subset: str, data: DataConfig, views: Sequence[str], *, fraction: float | None = None) -> ClipDataset:
    """A subset's clips as evaluation samples, several windows and crops a clip; with `fraction`, of that observed share of each."""
    return ClipDataset(clips.manifest.root, clips.subset(subset, data.split), data, views=views, training=False, fraction=fraction)


def training_sampler(
    clips: Clips, config: RunConfig, *, first_step: int, last_step: int, rank: int = 0, world_size: int = 1
) -> Sampler[list[Item]]:
    """The batches of a run; with unlabelled clips, each holds both kinds in fixed numbers. Steps are those of the loader."""
    data = config.data

    def walk(count: int, batch_size: int, stream: str, labels: list[int] | None = None) -> StepSampler:
        return StepSampler(
            count,
            batch_size,
            seed=config.train.seed,
            first_step=first_step,
            last_step=last_step,
            rank=rank,
            world_size=world_size,
            labels=labels,
            stream=stream,
        )

    classes = [-1 if clip.label is None else clip.label for clip in clips.train] if data.balanced else None
    labelled = walk(len(clips.train), labelled_batch(data), "labelled", classes)
    if not clips.unlabelled:
        return labelled
    return MixedSampler(labelled, walk(len(clips.unlabelled), data.batch_size - labelled.batch_size, "unlabelled"))


def labelled_batch(data: DataConfig) -> int:
    """Labelled clips in a batch."""
    return data.batch_size if data.unlabelled == "none" else batch_parts(data.batch_size, data.unlabelled_ratio)[0]


def build_run_task(
    config: RunConfig, classes: Sequence[str], targets: Mapping[str, Sequence[str]] | None = None, *, clips: Clips | None = None
) -> Task:
    """Student (seeded, or from `init`), teachers from their checkpoints, and the task.

    clips: of the run; a teacher that never saw one of the classes that the student learns is refused, and a teacher or an `init` that
    learned from clips by which the student is judged. Raises ConfigError or CheckpointError.
    """
    teacher = None if config.teacher is None else _teacher(config.teacher, classes, clips, config.data)
    others = [_teacher(path, classes, clips, config.data) for path in config.more_teachers]
    return build_task(config.task, config.method, _student(config, classes, targets or {}, clips), teacher, others)


def _student(config: RunConfig, classes: Sequence[str], targets: Mapping[str, Sequence[str]], clips: Clips | None) -> VideoClassifier:
    torch.manual_seed(config.train.seed)
    counts = {name: len(names) for name, names in targets.items()}
    student = VideoClassifier(config.model, len(classes), config.view, counts, {"": classes, **targets}, config.data.flow.stack)
    if clips is not None and (known := provenance(config.model.weights)) is not None:
        hint = "weights of a network that was trained on these groups, or of none"
        _check_unseen(f"model.weights {config.model.weights}", known["student"].get("learned"), clips, config.data.split, hint)
    if config.init is not None:
        _initialise(student, config.init, clips, config.data.split)
    return student


def check_pair(config: RunConfig, teacher: RunConfig, clips: Clips) -> None:
    """Raise ConfigError where the task of `config` cannot have the network that `teacher` trains, before that is trained.

    Both networks are built without memory or weights. Where a file gives the student's weights, it is built once more with them:
    raises CheckpointError for a file that is missing or does not fit.
    """
    manifest = clips.manifest
    counts = {name: len(names) for name, names in manifest.targets.items()}

    def empty(run: RunConfig) -> VideoClassifier:
        model = dataclasses.replace(run.model, weights=None)
        return VideoClassifier(model, len(manifest.classes), run.view, counts, flow_stack=run.data.flow.stack)

    with torch.device("meta"):
        build_task(config.task, config.method, empty(config), empty(teacher))
    if config.model.weights is not None or config.init is not None:
        _student(config, manifest.classes, manifest.targets, clips)


def _teacher(path: str, classes: Sequence[str], clips: Clips | None, data: DataConfig) -> VideoClassifier:
    saved = load_classifier(path)
    if clips is not None:
        mend = f"--teacher {path}-2 trains one for these groups (where teacher_settings say how)"
        _check_unseen(f"the teacher {path}", saved.learned, clips, data.split, mend)
    warn_if_unfinished(path)
    if saved.classes != tuple(classes):
        raise CheckpointError(
            f"the teacher {path} was trained on other classes",
            teacher=f"{len(saved.classes)}: {', '.join(saved.classes[:5])}…",
            data_set=f"{len(classes)}: {', '.join(classes[:5])}…",
            hint="train the teacher on the same manifest",
        )
    trained = [] if clips is None else clips.trained_classes
    unseen = [name for name in trained if saved.seen is not None and name not in saved.seen]
    if unseen:
        raise CheckpointError(
            f"the teacher {path} never saw {len(unseen)} of the classes that the student learns",
            classes=", ".join(unseen[:6]) + ("…" if len(unseen) > 6 else ""),
            hint="train the teacher on clips of every class, or leave these out of the student's",
        )
    if clips is not None and saved.data == clips.data:
        own = load_config(settings=saved.run).data
        drawn = ("split_seed", "validation_fraction") if own.label_fraction < 1 or own.labels_per_class is not None else ()
        names = ("split", "label_fraction", "labels_per_class", *drawn)
        if other := [f"data.{name} {getattr(own, name)}" for name in names if getattr(own, name) != getattr(data, name)]:
            what = "the teacher %s learned from other labels than the student, by %s; --teacher %s-2 trains another"
            log.warning(what, path, ", ".join(other), path)
    return saved.model


def _check_unseen(what: str, record: object, clips: Clips, split: str, hint: str) -> None:
    """Raise CheckpointError for a network that learned from clips by which its student is judged."""
    judged = [*clips.val, *clips.manifest.select(split, "test")]
    check_unseen(what, LearnedFrom.of(record), clips.manifest, split, judged, hint=hint)


def learned_record(config: RunConfig, clips: Clips) -> dict[str, Any]:
    """What the student of a run learns from: its training clips, and those of the networks that its weights and its teacher come from."""
    weights = provenance(config.model.weights)
    students = [weights["student"]] if weights is not None else []
    students += [
        read_checkpoint(Path(path))["student"] for path in (config.init, config.teacher, *config.more_teachers) if path is not None
    ]
    settings = {name: getattr(config.data, name) for name in SETTINGS}
    earlier = [student.get("learned") for student in students]
    return record_of(clips.manifest.root, [*clips.train, *clips.unlabelled], settings, earlier=earlier)


def student_payload(student: VideoClassifier, clips: Clips, learned: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a checkpoint that describes the student of a run. learned: `learned_record`."""
    manifest = clips.manifest
    return classifier_payload(student, manifest.classes, manifest.targets, seen=clips.trained_classes, learned=learned)


def _initialise(student: VideoClassifier, path: str, clips: Clips | None, split: str) -> None:
    known = load_classifier(path)
    if clips is not None:
        _check_unseen(f"init {path}", known.learned, clips, split, "an init that was trained on these groups, or none")
    saved = known.model
    try:
        apply_changes(student, saved.changes)
        student.load_state_dict(saved.state_dict())
    except RuntimeError as error:
        raise CheckpointError(f"init {path} is another network than `model`", reason=textwrap.shorten(str(error), 300)) from error


def total_steps(config: RunConfig, clips: int) -> int:
    """Optimiser steps of the whole run; an epoch is a walk through the `clips` labelled ones."""
    if config.train.steps is not None:
        return config.train.steps
    return max(1, math.ceil(config.train.epochs * clips / (labelled_batch(config.data) * config.optim.accumulate)))
