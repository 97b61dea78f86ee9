"""Training a classifier of clips as its configuration says."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.data.loaders import training_loader
from vidkd.engine.checkpoint import check_same_data, is_finished, read_resume
from vidkd.engine.clips import Clips, read_clips_of_run
from vidkd.engine.config import RunConfig, check_solvable, solved_task, teacher_config
from vidkd.engine.devices import start_fabric
from vidkd.engine.evaluate import MAIN_METRIC, judge
from vidkd.engine.features import frozen_networks, keep_features
from vidkd.engine.loop import RunResult, train_in_folder
from vidkd.engine.loop_config import check_validation
from vidkd.engine.run_folder import RunFolder
from vidkd.engine.setup import (
    build_run_task,
    check_pair,
    check_trains,
    labelled_batch,
    learned_record,
    student_payload,
    total_steps,
    training_sampler,
    training_set,
)
from vidkd.engine.solve import solve_in_folder
from vidkd.engine.training_run import Batch, TrainingRun
from vidkd.models import VideoClassifier
from vidkd.tasks import Task

log = logging.getLogger(__name__)


def fit(config: RunConfig, *, resume: str = "auto", quiet: bool = False) -> RunResult:
    """Train as the configuration says; resume the run of this name, or return at once if it is finished.

    resume: "auto" resumes from the last checkpoint if there is one, "previous" from the one before, "never" refuses an existing run.
    Raises ConfigError, DataError, CheckpointError, and InterruptedRunError after Ctrl-C (state saved).
    """
    check_solvable(config)
    clips = read_clips_of_run(config)
    check_trains(clips, config)
    check_validation(config.train, validates=bool(clips.val), samples="clips")
    _ensure_teacher(config, clips, resume=resume, quiet=quiet)
    if solved_task(config.task):
        _remark(config, clips)
        return solve_in_folder(config, clips, run_name(config, clips), resume=resume, quiet=quiet)
    batch, unused = config.data.batch_size, bool(config.model.attention.to_stage)
    fabric = start_fabric(config.train, batch_size=batch, leaves_parameters_unused=unused)
    if fabric.is_global_zero:
        _remark(config, clips)
    return train_in_folder(fabric, config, run_name(config, clips), lambda: ClipTrainingRun(config, clips), resume=resume, quiet=quiet)


def _remark(config: RunConfig, clips: Clips) -> None:
    """Log what of the training clips a user should know before it is learned from."""
    for line in clips.training_remarks():
        log.warning("%s: %s", run_name(config, clips), line)
    if clips.label_remark():
        log.info("%s: %s", run_name(config, clips), clips.label_remark())


def _ensure_teacher(config: RunConfig, clips: Clips, *, resume: str, quiet: bool) -> None:
    """Train the teacher first where the configuration says how, or resume it; a finished one is used unchanged."""
    teacher = teacher_config(config)
    if teacher is None:
        return
    folder = RunFolder(Path(teacher.runs) / str(teacher.name))
    log.info("teacher: %s", folder.path)
    if _teacher_is_finished(folder.path, resume):
        other = f"--teacher {folder.path}-2 and another --name"
        check_same_data(read_resume(folder.checkpoints / "last.pt"), clips.data, folder.path, another=other)
        folder.note_other_settings(teacher)
    else:
        check_pair(config, teacher, clips)
        fit(teacher, resume=resume, quiet=quiet)


def _teacher_is_finished(folder: Path, resume: str) -> bool:
    try:
        return is_finished(folder)
    except CheckpointError:
        if resume == "previous":  # the damaged last checkpoint is what the user goes back from
            return False
        raise


def run_name(config: RunConfig, clips: Clips) -> str:
    """The run's folder name: as configured, else task, data set and seed."""
    return config.name or f"{config.task}-{clips.manifest.name}-s{config.train.seed}"


class ClipTrainingRun(TrainingRun):
    """A classifier that learns from clips."""

    main_metric: ClassVar[str] = MAIN_METRIC

    def __init__(self, config: RunConfig, clips: Clips) -> None:
        self.config: RunConfig = config
        self.clips = clips
        manifest = clips.manifest
        self.task: Task = build_run_task(config, manifest.classes, manifest.targets, clips=clips)
        self.dataset = training_set(clips, config, self.task.views)
        self.steps = total_steps(config, len(clips.train))
        self.samples, self.batch_size = len(clips.train), labelled_batch(config.data)
        self.data = clips.data
        self.learned = learned_record(config, clips)
        self.most_bad = config.data.max_bad_clips
        self.validates = bool(clips.val)
        self.fills_cache = config.data.cache.enabled
        self.uncounted, self.counts = 0, np.zeros(4, np.int64)

    def loader(self, first: int, last: int, *, rank: int, world_size: int, pin_memory: bool) -> DataLoader[Batch]:
        """As `TrainingRun`; activations of frozen networks are computed first, where they are kept."""
        kept = self.config.data.features
        if kept.views and world_size > 1:
            raise ConfigError(
                "activations of frozen stages are kept for one process only",
                processes=world_size,
                hint="--train.devices 1, or --data.features.views 0",
            )
        if kept.views and self.dataset.features is None:
            networks, view = frozen_networks(self.task), self.task.student.view
            seen = None if view in networks else view
            keep_features(self.dataset, networks, seen=seen, epochs=kept.views, progress="activations of frozen stages")
        epoch = math.ceil(self.samples / self.batch_size)
        self.uncounted = min(epoch, last) - first if rank == 0 and self.config.data.observe.protocol != "whole" else 0
        sampler = training_sampler(self.clips, self.config, first_step=first, last_step=last, rank=rank, world_size=world_size)
        return training_loader(self.dataset, sampler, self.config.data.workers, pin_memory=pin_memory)

    def look_at(self, batch: Batch) -> None:
        """Count the samples of the first epoch in which frames repeat or nothing is observed, and log them at its end.

        The first process counts its own.
        """
        if self.uncounted <= 0:
            return
        self.uncounted -= 1
        parts = (batch["held"], batch.get("held_future", torch.zeros(1)))
        self.counts += [len(batch["held"]), *(int(part.sum()) for part in parts), len(batch.get("unobservable", ()))]
        samples, student, teacher, left_out = self.counts.tolist()
        if self.uncounted == 0 and left_out:
            log.warning("no frame in the observed part, nothing is learned from it: %d of %d samples", left_out, samples + left_out)
        if self.uncounted == 0 and student + teacher:
            what = "parts with fewer frames than the window, so that frames repeat: of %d samples %d of the student, %d of the teacher"
            log.warning(what, samples, student, teacher)

    def student_payload(self) -> dict[str, Any]:
        """As `TrainingRun`."""
        return student_payload(self.task.student, self.clips, self.learned)

    def judge(self, student: nn.Module, *, device: torch.device, rank: int, world_size: int) -> Mapping[str, float]:
        """As `TrainingRun`, on the `val` clips."""
        assert isinstance(student, VideoClassifier)
        data = self.config.data
        found = judge(
            student,
            self.clips,
            "val",
            data,
            self.clips.manifest.classes,
            device=device,
            workers=data.workers,
            rank=rank,
            world_size=world_size,
        )
        return found.metrics()

    def sample_names(self, batch: Batch) -> list[str]:
        """As `TrainingRun`."""
        return [self.dataset.clips[number].path for number in batch["index"].tolist()]
