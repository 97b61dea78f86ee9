"""The folder of a run: its configuration, metrics and checkpoints, owned by one process at a time."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from vidkd.base.errors import ConfigError, require
from vidkd.base.files import append_jsonl, atomic_write, lock, read_jsonl, writing
from vidkd.base.settings import as_dict, default_settings, flatten, read_yaml, to_yaml
from vidkd.engine.devices import environment
from vidkd.engine.loop_config import LoopConfig

log = logging.getLogger(__name__)
# Settings that may differ when a run resumes: where and how fast, not what. The length is taken from the configuration.
FREE = (
    "train.epochs",
    "train.steps",
    "train.device",
    "train.devices",
    "train.threads",
    "train.save_every_s",
    "train.log_every",
    "train.tensorboard",
    "train.compile",
    "data.root",
    "data.manifest",
    "data.workers",
    "data.cache",
    "data.features.folder",
    "data.features.max_gb",
    "runs",
    "name",
)
CHOOSE_LABELS = ("data.label_fraction", "data.labels_per_class", "data.split_seed")  # of which the network that reads a teacher tells
LENGTH = ("train.epochs", "train.steps")
# What `evaluate` writes into the folder: it judges the weights that are there.
JUDGEMENTS = ("evaluation.json", "predictions.csv", "classes.csv", "videos.csv")


class RunFolder:
    """`runs/<name>/`: config.yaml, environment.txt, metrics.jsonl and checkpoints/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.metrics_file = path / "metrics.jsonl"

    def check(self, config: LoopConfig, *, resume: str) -> None:
        """Check that the folder belongs to this configuration. Without a checkpoint there is nothing in it to lose.

        Raises ConfigError if a run with this name but other settings is there (they are listed), or with resume="never" any run at all.
        """
        written = self.path / "config.yaml"
        if written.exists() and self.has_checkpoint():
            if resume == "never":
                raise ConfigError(f"there is a run in {self.path} already", hint="another --name, or --resume auto to resume it")
            self._check_same(config, read_yaml(written).content)

    def claim(self, config: LoopConfig) -> None:
        """Write what the run is, its configuration and environment. Raises WriteError if the disk is full."""
        written = self.path / "config.yaml"
        with atomic_write(written) as file:
            file.write(f"# vidkd train --config {written}\n{to_yaml(config)}")
        with atomic_write(self.path / "environment.txt") as file:
            file.writelines(f"{name}: {value}\n" for name, value in environment().items())

    def has_checkpoint(self) -> bool:
        """Whether training came as far as to keep something."""
        return any((self.checkpoints / f"{name}.pt").exists() for name in ("last", "previous", "best"))

    def _check_same(self, new: LoopConfig, old: Mapping[str, Any]) -> None:
        changed = differences(new, old)
        fixed = [key for key in changed if not key.startswith(FREE)]
        if fixed:
            rows = {key: f"{changed[key][1]} there, {changed[key][0]} here" for key in fixed[:6]}
            raise ConfigError(f"another run has the name {self.path.name}: its settings differ", **rows, hint="another --name")
        for key in LENGTH:
            if key in changed:
                log.warning("%s was %s when this run began and is %s now", key, changed[key][1], changed[key][0])

    def note_other_settings(self, config: LoopConfig) -> None:
        """Log the settings with which this finished run, a teacher, was made and `config` would not make it; the run stays unchanged."""
        written = self.path / "config.yaml"
        changed = differences(config, read_yaml(written).content) if written.exists() else {}
        for key, (here, there) in changed.items():
            if key in LENGTH or not key.startswith((*FREE, *CHOOSE_LABELS)):
                log.warning("%s is finished and used unchanged: %s was %s there, not %s", self.path, key, there, here)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder. Raises ConfigError if another process trains in it."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("w")
        with file:
            lock(file.fileno(), ConfigError(f"another process is training in {self.path}", hint="wait for it, or use another --name"))
            yield

    def forget_after(self, step: int, *, judged_again: bool = False) -> None:
        """Drop the metrics of steps after `step`, and with `judged_again` the validation of that step too: they will be made again."""
        rows = [row for row in read_jsonl(self.metrics_file) if row["step"] <= step]
        if judged_again:
            rows = [row for row in rows if row["step"] < step or row["split"] == "train"]
        with atomic_write(self.metrics_file) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def set_judgement_aside(self, step: int) -> None:
        """Rename evaluations of the earlier weights before training resumes: `evaluation.before_resume_at_step<step>.json`; log it."""
        for path in (self.path / name for name in JUDGEMENTS):
            if path.exists():
                aside = path.with_name(f"{path.stem}.before_resume_at_step{step}{path.suffix}")
                path.replace(aside)
                log.warning("%s judges the weights of before, and is now %s; `vidkd evaluate` judges the new ones", path, aside.name)


def differences(new: LoopConfig, old: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{dotted key: (new value, old value)} where a configuration differs from the nested settings of an older one, sorted by key.

    A setting that is missing in `old`, which is older than it, stood at its default.
    """
    defaults = flatten(as_dict(default_settings(type(new), new.task)))
    new_flat, old_flat = flatten(as_dict(new)), {**defaults, **flatten(old)}
    pairs = {key: (new_flat.get(key), old_flat.get(key)) for key in sorted(new_flat.keys() | old_flat.keys())}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def settings_that_count(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of a run, flat, on which its numbers depend: not where and how fast it goes, nor what it begins with."""
    left_out = (*(name for name in FREE if name not in LENGTH), "init")
    return {key: value for key, value in flatten(settings).items() if not key.startswith(left_out)}


class MetricsLog:
    """Rows of figures, written by the first process alone."""

    def __init__(self, fabric: Fabric, folder: RunFolder) -> None:
        self.fabric, self.folder = fabric, folder
        self._writer: Any = None

    def add(self, row: Mapping[str, Any], scalars: Mapping[str, float]) -> None:
        """Append a row (with "step" and "split") to metrics.jsonl, its scalars to the event files. WriteError if the disk is full."""
        if self.fabric.is_global_zero:
            append_jsonl(self.folder.metrics_file, row)
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def mean_over_processes(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Each value averaged over the processes of the run; all of them must call it."""
        if self.fabric.world_size == 1:
            return losses
        values = torch.tensor(list(losses.values()), device=self.fabric.device)
        means = cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean"))
        return dict(zip(losses, means.tolist(), strict=True))

    @contextlib.contextmanager
    def tensorboard(self, wanted: bool, first_step: int) -> Iterator[None]:
        """Write event files while the block lasts, if `wanted`; what they hold from `first_step` on is written again."""
        if not wanted or not self.fabric.is_global_zero:
            yield
            return
        require("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder.path / "tensorboard"), purge_step=first_step) as self._writer:
            yield
        self._writer = None
