"""From a configuration to the parts of a run: clips, data sets, networks, task, optimiser."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vidkd.base.errors import CheckpointError, ConfigError, DataError
from vidkd.data.dataset import ClipDataset, DataConfig
from vidkd.data.groups import hold_out_groups, label_fraction
from vidkd.data.layouts import LAYOUTS
from vidkd.data.manifest import Clip, Manifest
from vidkd.engine.checkpoint import warn_if_unfinished
from vidkd.engine.config import OptimConfig, RunConfig, config_stem, place_of
from vidkd.models import VideoClassifier, undecayed_parameters
from vidkd.models.saved import load_classifier
from vidkd.tasks import Task, build_task

NO_DATA = {"no_data?": "make demo"}


@dataclass(frozen=True)
class Clips:
    """A manifest and the clips of its subsets under a configuration's split, held-out groups and label fraction."""

    manifest: Manifest
    train: list[Clip]
    val: list[Clip]

    def subset(self, name: str, split: str) -> list[Clip]:
        """`train`, `val` or `test`. Raises DataError if it holds no clip."""
        clips = {"train": self.train, "val": self.val}.get(name)
        if clips is None:
            clips = self.manifest.select(split, name)
        if not clips:
            raise DataError(
                f"split '{split}' has no '{name}' clips",
                to_mend="data.validation_fraction > 0 makes a `val` subset" if name == "val" else "another --split",
            )
        return clips


def read_clips_of_run(config: RunConfig) -> Clips:
    """As `read_clips`; the message of a missing data set says where the configuration names it, and how it is prepared."""
    key = "data.manifest" if config.data.manifest else "data.root"
    return read_clips(config.data, given=place_of(config, key), layout=config_stem(config))


def read_clips(config: DataConfig, *, given: str = "", layout: str = "") -> Clips:
    """Read the manifest and select the clips.

    given: where data.root or data.manifest was set; layout: the data set's layout if it is one of LAYOUTS. Both serve the message of the
    DataError for a data set that is not there.
    """
    if not config.root and not config.manifest:
        raise ConfigError("data.root is not set", to_mend="--data.root DIR   (the folder of the data set)", **NO_DATA)
    path = Path(config.manifest) if config.manifest else Path(config.root) / "manifest.jsonl"
    if not path.exists():
        raise _not_found(path, Path(config.root) if config.root else path.parent, given, layout)
    manifest = Manifest.read(path, config.root or None)
    train = manifest.select(config.split, "train")
    val = manifest.select(config.split, "val")
    if config.validation_fraction > 0:
        train, val = hold_out_groups(train, config.validation_fraction, config.split_seed)
    if config.label_fraction < 1:
        train = label_fraction(train, config.label_fraction, config.split_seed)
    return Clips(manifest, train, val)


def _not_found(path: Path, root: Path, given: str, layout: str) -> DataError:
    """The error for a manifest that is not there; a data set without a layout of its own name is called as its folder."""
    known = layout in LAYOUTS
    missing = path.parent if not path.parent.is_dir() else path
    given = given or ("data.manifest" if path.parent != root else "data.root")
    return DataError(
        f"data set '{layout if known else root.resolve().name}' not found",
        looked_in=f"{root}   ({given})",
        expected=f"{path.name}, which prepare_data writes there",
        found=f"{missing} is missing",
        to_mend=f"python tools/prepare_data.py {layout if known else 'LAYOUT'} --root {root}"
        + ("" if known else f"   (LAYOUT: {', '.join(sorted(LAYOUTS))})"),
        **NO_DATA,
    )


def check_validation(config: RunConfig, clips: Clips) -> None:
    """Raises ConfigError where the settings of validations ask for what cannot happen: early stopping without any, or any without clips."""
    train = config.train
    if train.patience and not train.eval_every:
        raise ConfigError(
            f"train.patience={train.patience} never stops a run without validations",
            to_mend="train.eval_every: 1   (epochs), or patience 0",
        )
    if train.eval_every and not clips.val:
        raise ConfigError(
            f"train.eval_every={train.eval_every:g}, but there are no `val` clips",
            to_mend="data.validation_fraction above 0, or eval_every 0",
        )


def training_set(clips: Clips, config: RunConfig, views: Sequence[str]) -> ClipDataset:
    """The training clips as samples."""
    if not clips.train:
        raise DataError(f"split '{config.data.split}' has no training clips")
    may_flip = clips.manifest.horizontal_flip
    return ClipDataset(clips.manifest.root, clips.train, config.data, views=views, training=True, seed=config.train.seed, may_flip=may_flip)


def evaluation_set(clips: Clips, subset: str, data: DataConfig, views: Sequence[str]) -> ClipDataset:
    """A subset's clips as evaluation samples, several windows and crops a clip."""
    return ClipDataset(clips.manifest.root, clips.subset(subset, data.split), data, views=views, training=False)


def build_run_task(config: RunConfig, classes: Sequence[str]) -> Task:
    """Student (seeded, or from `init`), teacher from its checkpoint, and the task. Raises ConfigError or CheckpointError."""
    teacher = None
    if config.teacher is not None:
        saved = load_classifier(config.teacher)
        warn_if_unfinished(config.teacher)
        if saved.classes != tuple(classes):
            raise CheckpointError(
                f"the teacher {config.teacher} was trained on other classes",
                teacher=f"{len(saved.classes)}: {', '.join(saved.classes[:5])}…",
                data_set=f"{len(classes)}: {', '.join(classes[:5])}…",
                to_mend="train the teacher on the same manifest",
            )
        teacher = saved.model
    torch.manual_seed(config.train.seed)
    student = VideoClassifier(config.model, len(classes), config.view)
    if config.init is not None:
        _initialise(student, config.init)
    return build_task(config.task, config.method, student, teacher)


def _initialise(student: VideoClassifier, path: str) -> None:
    state = load_classifier(path).model.state_dict()
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"init {path} is another network than `model`", reason=textwrap.shorten(str(error), 300)) from error


def total_steps(config: RunConfig, clips: int) -> int:
    """Optimiser steps of the whole run."""
    if config.train.steps is not None:
        return config.train.steps
    return max(1, math.ceil(config.train.epochs * clips / (config.data.batch_size * config.optim.accumulate)))


def build_optimizer(task: Task, config: OptimConfig) -> Optimizer:
    """Parameter groups by two rules: no decay on norms and biases; the head's learning rate times `head_lr_factor`."""
    undecayed = {id(p) for p in undecayed_parameters(task)}
    head = {id(p) for p in task.student.head_parameters()}
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for parameter in task.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in head, id(parameter) in undecayed), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": config.lr * (config.head_lr_factor if in_head else 1.0),
            "weight_decay": 0.0 if spared else config.weight_decay,
        }
        for (in_head, spared), parameters in groups.items()
    ]
    if config.optimiser == "sgd":
        return SGD(settings, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return AdamW(settings, lr=config.lr)


def build_schedule(optimizer: Optimizer, config: OptimConfig, steps: int) -> LambdaLR:
    """Linear warm-up over `warmup` of the steps, then a cosine to zero."""
    warmup = round(config.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return LambdaLR(optimizer, factor)
