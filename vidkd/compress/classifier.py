"""A classifier of clips as a recipe's subject."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidkd.base.cores import check_threads
from vidkd.base.errors import ConfigError, VidkdError
from vidkd.base.files import sha256
from vidkd.base.settings import as_dict, merge
from vidkd.compress.calibration import calibration_of, drawn_or_refused
from vidkd.compress.config import DistilConfig, FactoriseConfig, PruneConfig, QuantiseConfig, RefitConfig
from vidkd.compress.export import parts_of
from vidkd.compress.export_card import write_card
from vidkd.compress.export_classifier import Integers, classifier_metadata, export_classifier, float_bytes
from vidkd.compress.factorise import factorise
from vidkd.compress.importance import TAYLOR_BATCHES, LossBatches
from vidkd.compress.outcome import Compressed
from vidkd.compress.parity import data_set_clips
from vidkd.compress.prune import prune
from vidkd.compress.recipe import (
    INSTEAD_OF_DISTIL,
    ORIGINAL,
    ExportConfig,
    Format,
    Recipe,
    RepairConfig,
    Step,
    check_formats,
    repaired_settings,
    say_fewer_threads,
)
from vidkd.compress.subject import MORE_TOLERANCE, Interval, Made, Subject, Writer, Written, check_excluded, check_packages, no_interval
from vidkd.data.learned_from import LearnedFrom, check_unseen
from vidkd.data.loaders import training_loader
from vidkd.engine.checkpoint import warn_if_unfinished
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.devices import pick_device
from vidkd.engine.evaluate import MAIN_METRIC, judge
from vidkd.engine.fit import fit
from vidkd.engine.run_folder import settings_that_count
from vidkd.engine.setup import check_trains, training_sampler, training_set
from vidkd.engine.training_errors import count_bad
from vidkd.models import VideoClassifier
from vidkd.models.exported import ExportedModule
from vidkd.models.saved import SavedClassifier, checkpoint_in, load_classifier, save_classifier
from vidkd.runtime.metadata import CHANNELS
from vidkd.runtime.opening import open_exported_classifier
from vidkd.tasks import check_teacher

PARITY_CLIPS = 8


class ClassifierSubject(Subject):
    """The student of a recipe, its clips, and how it is trained and judged: as its own run was, with the recipe's settings over it.

    overrides: flags over these. quiet: without progress. interval: of the main metric, for cards. Raises CheckpointError, ConfigError and
    DataError as their readers do.
    """

    counted = "clips"

    def __init__(self, recipe: Recipe, overrides: Sequence[str] = (), *, quiet: bool = False, interval: Interval = no_interval) -> None:
        super().__init__(recipe, interval)
        self._quiet = quiet
        self.original = Path(recipe.student)
        self._student = load_classifier(self.original)
        warn_if_unfinished(self.original)
        self._quantised: dict[Path, Integers] = {}  # by the network, which a recipe quantises once
        self._overrides = overrides
        self.config = self._configured({})
        self._clips = read_clips_of_run(self.config)
        if self._clips.manifest.classes != self._student.classes:
            raise ConfigError(
                f"{recipe.student} was trained on other classes than {self._clips.manifest.name} has",
                student=", ".join(self._student.classes[:6]),
                data_set=", ".join(self._clips.manifest.classes[:6]),
            )
        judged = self._clips.subset(self._recipe.subset, self.config.data.split)  # raises before anything is done
        learned = LearnedFrom.of(self._student.learned)
        check_unseen(str(self.original), learned, self._clips.manifest, self.config.data.split, judged)

    @property
    def main_metric(self) -> str:
        """See `Subject`."""
        return MAIN_METRIC

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Subject`. The content of a teacher is among it where it is there."""
        teacher = self.config.teacher
        content = _content(teacher) if teacher else None
        return {"settings": settings_that_count(as_dict(self.config)), "manifest": self._clips.data, "teacher": content}

    def taught_by(self, step: Step) -> str | None:
        """See `Subject`. The student before any step is known already, and a teacher that settings train again by these."""
        given = step.settings.settings if isinstance(step.settings, RepairConfig) else {}
        teacher = given.get("teacher")
        return None if teacher in (None, ORIGINAL) or given.get("teacher_settings") is not None else _content(teacher)

    def check(self, steps: Sequence[Step], ahead: Sequence[Step]) -> None:
        """See `Subject`."""
        self._recipe.refuse_files("a classifier of clips")
        pick_device(self.config.train.device, flag="--train.device")
        if self._recipe.footage:
            mend = "leave out `footage`: ranges are found on the run's training clips"
            raise ConfigError("footage is for detectors, and the student is a classifier of clips", where=self._recipe.path, hint=mend)
        for step in steps:
            if isinstance(step.settings, DistilConfig | RefitConfig):
                raise ConfigError(f"{step.name}: `{step.kind}` is for detectors along footage", hint=INSTEAD_OF_DISTIL)
            if isinstance(step.settings, RepairConfig):
                self._check_repair(step.settings, f"{self._recipe.path or self._recipe.name}: step {step.name}")
        check_formats(steps, ("onnx", "xml", "pt2"))
        check_excluded(steps, self._student.model)
        self._check_clips(steps)
        check_packages(ahead, traced=True)

    def _check_clips(self, steps: Sequence[Step]) -> None:
        """Raise DataError where a step has no training clips, ConfigError where those for ranges are of one class."""
        classes, split = self._student.classes, self.config.data.split
        for step in steps:
            settings = step.settings
            try:
                if isinstance(settings, PruneConfig) and settings.criterion == "taylor":
                    check_trains(self._clips, self.config)
                if isinstance(settings, QuantiseConfig):
                    drawn_or_refused(self._clips.train, settings.clips, settings.seed, classes=classes, split=split)
            except VidkdError as error:
                raise error.with_lines(needed_by=f"step {step.name}") from None

    def _check_repair(self, settings: RepairConfig, where: str) -> None:
        """Raise ConfigError for settings that no run has, no teacher where one is needed or more threads than cores.

        CheckpointError for a teacher that is not there, be it that of the student's own run.
        """
        try:
            config = self._configured(settings.settings)
            check_teacher(config.task, given=config.teacher is not None)
            if config.teacher and settings.settings.get("teacher_settings") is None:
                load_classifier(config.teacher)
        except VidkdError as error:
            raise error.with_lines(where=where) from None
        check_threads(config.train.threads, where=f"{where}: train.threads")

    def change(self, model: Path, step: Step, folder: Path, *, whole: Path) -> Made:
        """See `Subject`."""
        saved = load_classifier(model)
        done = self._changed(saved.model, step, whole)
        path = folder / "model.pt"
        save_classifier(path, dataclasses.replace(saved, model=done.model))
        return Made(model=path, notes=done.notes, files=(path,))

    def _changed(self, net: VideoClassifier, step: Step, whole: Path) -> Compressed[VideoClassifier]:
        settings, example = step.settings, self._example()
        if isinstance(settings, PruneConfig):
            losses = self._losses if settings.criterion == "taylor" else None
            before = load_classifier(whole).model if step.part > 1 else None
            return prune(net, example, settings, step=step.part, whole=before, losses=losses)
        assert isinstance(settings, FactoriseConfig)
        return factorise(net, example, settings)

    def _example(self) -> Tensor:
        data = self.config.data
        return torch.zeros(1, CHANNELS[self._student.view], data.window.frames, data.transform.crop, data.transform.crop)

    @property
    def _losses(self) -> LossBatches:
        """The cross-entropy of a network on training batches, for Taylor's criterion; DataError where too many clips cannot be read."""

        def batches(net: nn.Module) -> Iterator[Tensor]:
            config, view = self.config, self._student.view
            samples = training_set(self._clips, config, [view])
            sampler = training_sampler(self._clips, config, first_step=0, last_step=TAYLOR_BATCHES)
            bad: list[str] = []
            for batch in training_loader(samples, sampler, config.data.workers, pin_memory=False):
                count_bad(batch, bad, most=config.data.max_bad_clips)
                if "index" not in batch:  # of whose clips none could be read, or nothing observed
                    continue
                labelled, seen = batch["label"] >= 0, batch.get("observed")
                if labelled.any():
                    logits = net(batch[view][labelled], None if seen is None else seen[labelled]).logits
                    yield F.cross_entropy(logits, batch["label"][labelled])

        return batches

    def repair(self, model: Path, config: RepairConfig, folder: Path) -> Made:
        """See `Subject`."""
        place = {"name": folder.name, "runs": str(folder.parent), "init": str(model), "model": {"weights": None}}
        known = {"teacher_settings": None}  # its teacher is there already: this length and rate are not how one is trained
        configured = self._configured(merge(merge(known, config.settings), place))
        say_fewer_threads(self._student.run, configured)
        result = fit(configured, quiet=self._quiet)
        notes = {"steps": result.steps, "train_seconds": round(result.seconds, 2)}
        return Made(model=result.folder, notes=notes, files=(checkpoint_in(result.folder),))

    def _configured(self, settings: Mapping[str, Any]) -> RunConfig:
        """The configuration of a run over that of the student's own."""
        over = merge(merge({}, self._recipe.settings), settings)
        found = repaired_settings(self._student.run, over, original=str(self.original))
        return load_config(settings=found, overrides=self._overrides)

    def _writer(self, model: Path, integers: QuantiseConfig | None, config: ExportConfig) -> Writer:
        saved, data = load_classifier(model), self.config.data
        given = None if integers is None else self._quantised.get(model)
        if integers is not None and given is None:
            given = self._quantised[model] = self._integers(saved, integers)
        clips = data_set_clips(self.config, saved.view, PARITY_CLIPS)

        def write(folder: Path, form: Format) -> Written:
            path = folder / f"model.{form}"
            exported = export_classifier(
                saved,
                data,
                path,
                clips=clips,
                integers=given,
                tolerance=config.tolerance,
                more=MORE_TOLERANCE,
                named=model,
            )
            return Written(
                path=path,
                parity=exported.parity,
                quantised=exported.quantised,
                files=tuple(parts_of(path)),
                card=lambda judged, of_file: write_card(
                    exported,
                    data=f"{self._clips.manifest.name}, split {data.split}",
                    judged=judged,
                    of_file=of_file,
                    licence=config.licence,
                ),
            )

        return Writer(write=write, calibration="" if given is None else given.calibration.source)

    def _integers(self, saved: SavedClassifier, config: QuantiseConfig) -> Integers:
        metadata = classifier_metadata(saved, self.config.data)
        calibration = calibration_of(self.config, metadata, clips=config.clips, seed=config.seed)
        return Integers(config=config, calibration=calibration)

    def _judged(self, made: Made) -> dict[str, Any]:
        if made.file is not None:
            device = torch.device("cpu")  # an exported file is run by its own library
            model: VideoClassifier | ExportedModule = ExportedModule(open_exported_classifier(made.file))
        else:
            device = pick_device(self.config.train.device, flag="--train.device")
            model = load_classifier(made.model).model.to(device)
        data = self.config.data
        found = judge(model, self._clips, self._recipe.subset, data, self._student.classes, device=device, workers=data.workers)
        metrics = {name: round(value, 6) for name, value in found.metrics().items()}
        return {"metrics": metrics, "predictions": found.as_rows(), "counts": found.counts()}

    def _net(self, model: Path) -> tuple[nn.Module, Tensor]:
        return load_classifier(model).model, self._example()

    def _float_bytes(self, suffix: str) -> int:
        return float_bytes(self._student, self.config.data, suffix, self.original)


def _content(teacher: str) -> str | None:
    """Hash of the weights of a teacher; None for one that is not there."""
    file = checkpoint_in(Path(teacher))
    return sha256(file) if file.is_file() else None
