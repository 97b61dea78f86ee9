"""A classifier of clips as a recipe's subject."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidkd.base.cores import check_threads
from vidkd.base.errors import ConfigError
from vidkd.base.files import sha256
from vidkd.base.settings import as_dict, merge
from vidkd.compress.compressed import Compressed
from vidkd.compress.export_classifier import ClassifierSource, classifier_metadata, drawn, integers_of
from vidkd.compress.parity import Samples, data_set_clips
from vidkd.compress.prune import TAYLOR_BATCHES
from vidkd.compress.quantise import Integers
from vidkd.compress.recipe import (
    ORIGINAL,
    DistilConfig,
    PruneConfig,
    QuantiseConfig,
    Recipe,
    RefitConfig,
    RepairConfig,
    Step,
)
from vidkd.compress.subject import Interval, Made, Subject
from vidkd.data.learned_from import LearnedFrom, check_unseen
from vidkd.data.loaders import training_loader
from vidkd.engine.checkpoint import warn_if_unfinished
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.devices import pick_device
from vidkd.engine.evaluate import MAIN_METRIC, judge
from vidkd.engine.fit import fit
from vidkd.engine.loop import RunResult
from vidkd.engine.run_folder import settings_that_count
from vidkd.engine.setup import check_trains, training_sampler, training_set
from vidkd.models.saved import ExportedModule, SavedClassifier, checkpoint_in, load_classifier, save_classifier
from vidkd.runtime.opening import open_exported_classifier
from vidkd.tasks import check_teacher

PARITY_CLIPS = 8


class ClassifierSubject(Subject):
    """The student of a recipe, its clips, and how it is trained and judged: as its own run was, with the recipe's settings over it.

    overrides: flags over these. quiet: without progress. interval: of the main metric, for cards. Raises CheckpointError, ConfigError and
    DataError as their readers do.
    """

    counted = "clips"
    formats = ("onnx", "xml", "pt2")
    source_kind = ClassifierSource
    main_metric = MAIN_METRIC

    def __init__(self, recipe: Recipe, overrides: Sequence[str] = (), *, quiet: bool = False, interval: Interval | None = None) -> None:
        super().__init__(recipe, Path(recipe.student), interval)
        self._quiet, self._overrides = quiet, overrides
        self._student = load_classifier(self.original)
        warn_if_unfinished(self.original)
        self.config = self._configured({})
        self._clips = read_clips_of_run(self.config)
        if self._clips.manifest.classes != self._student.classes:
            raise ConfigError(
                f"{recipe.student} was trained on other classes than {self._clips.manifest.name} has",
                student=", ".join(self._student.classes[:6]),
                data_set=", ".join(self._clips.manifest.classes[:6]),
            )
        judged = self._clips.subset(recipe.subset, self.config.data.split)  # raises before anything is done
        learned = LearnedFrom.of(self._student.learned)
        check_unseen(str(self.original), learned, self._clips.manifest, self.config.data.split, judged)

    @property
    def data_name(self) -> str:
        """See `Subject`."""
        return f"{self._clips.manifest.name}, split {self.config.data.split}"

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Subject`. The content of a teacher is part of it where it is there."""
        teacher = self.config.teacher
        content = _content(teacher) if teacher else None
        return {"settings": settings_that_count(as_dict(self.config)), "manifest": self._clips.data, "teacher": content}

    def learns_from(self, step: Step) -> str | None:
        """See `Subject`. The student before any step is known already, and a teacher that settings train again by these."""
        given = step.settings.settings if isinstance(step.settings, RepairConfig) else {}
        teacher = given.get("teacher")
        return None if teacher in (None, ORIGINAL) or given.get("teacher_settings") is not None else _content(teacher)

    def _check_step(self, step: Step) -> None:
        settings = step.settings
        if isinstance(settings, DistilConfig | RefitConfig) or self._recipe.footage:
            hint = "leave out `footage`; repair: {task: logits_kd, teacher: original}, or another task with a teacher"
            raise ConfigError("`distil`, `refit` and footage are for detectors, and the student is a classifier of clips", hint=hint)
        if isinstance(settings, RepairConfig):
            config = self._configured(settings.settings)
            check_teacher(config.task, given=config.teacher is not None)
            if config.teacher and settings.settings.get("teacher_settings") is None:
                load_classifier(config.teacher)
            check_threads(config.train.threads, where="train.threads")
        if isinstance(settings, PruneConfig) and settings.criterion == "taylor":
            check_trains(self._clips, self.config)
        if isinstance(settings, QuantiseConfig):
            drawn(self._clips.train, settings, self._student.classes)

    def load(self, path: Path) -> SavedClassifier:
        """See `Subject`."""
        return load_classifier(path)

    def network(self, saved: SavedClassifier) -> tuple[nn.Module, Tensor]:
        """See `Subject`."""
        data = self.config.data
        return saved.model, torch.zeros(
            1, len(saved.model.normalise.spec.mean), data.window.frames, data.transform.crop, data.transform.crop
        )

    def source(self, model: Path) -> ClassifierSource:
        """See `Subject`."""
        return ClassifierSource(load_classifier(model), self.config.data, model)

    def _save(self, folder: Path, _: Path, saved: SavedClassifier, done: Compressed[Any], /) -> Made:
        path = folder / "model.pt"
        save_classifier(path, dataclasses.replace(saved, model=done.model))
        return Made(model=path, notes=done.notes, files=(path,))

    def _training(self, net: nn.Module) -> tuple[Iterable[dict[str, Any]], int, Callable[[dict[str, Any]], Tensor | None]]:
        """See `Subject`: the cross-entropy."""
        config, view = self.config, self._student.view
        sampler = training_sampler(self._clips, config, first_step=0, last_step=TAYLOR_BATCHES)
        loader = training_loader(training_set(self._clips, config, [view]), sampler, config.data.workers, pin_memory=False)

        def loss(batch: dict[str, Any]) -> Tensor | None:
            labelled, seen = batch["label"] >= 0, batch.get("observed")
            if not labelled.any():
                return None
            logits = net(batch[view][labelled], None if seen is None else seen[labelled]).logits
            return F.cross_entropy(logits, batch["label"][labelled])

        return loader, config.data.max_bad_clips, loss

    def _train(self, model: Path, config: RepairConfig, folder: Path) -> RunResult:
        place = {"name": folder.name, "runs": str(folder.parent), "init": str(model), "model": {"weights": None}}
        known = {"teacher_settings": None}  # its teacher is there already: this length and rate are not how one is trained
        return fit(self._configured(merge(merge(known, config.settings), place)), quiet=self._quiet)

    def _configured(self, settings: Mapping[str, Any]) -> RunConfig:
        """The configuration of a run over that of the student's own."""
        return load_config(settings=self._settings(self._student.run, settings), overrides=self._overrides)

    def _ranges(self, config: QuantiseConfig) -> Integers:
        return integers_of(self.config, classifier_metadata(self._student, self.config.data), config)

    def _samples(self) -> Samples:
        return data_set_clips(self.config, self._student.view, PARITY_CLIPS)

    def _judged(self, made: Made) -> dict[str, Any]:
        device = torch.device("cpu") if made.file else pick_device(self.config.train.device, flag="--train.device")
        # an exported file is run by its own library
        model = ExportedModule(open_exported_classifier(made.file)) if made.file else load_classifier(made.model).model.to(device)
        data = self.config.data
        found = judge(
            model, self._clips, self._recipe.subset, data, self._student.classes, device=device, workers=data.workers, last_only=True
        )
        metrics = {name: round(value, 6) for name, value in found.metrics().items()}
        return {"metrics": metrics, "predictions": found.as_rows(), "counts": found.counts()}


def _content(teacher: str) -> str | None:
    """Hash of the weights of a teacher; None for one that is not there."""
    file = checkpoint_in(Path(teacher))
    return sha256(file) if file.is_file() else None
