"""The whole configuration of a run: strict YAML, overrides on the command line, typed dataclasses."""

import dataclasses
import math
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser

from vidkd.base.errors import ConfigError, VidkdError, nearest, unknown_name
from vidkd.data.dataset import DataConfig
from vidkd.models import ModelConfig
from vidkd.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and its schedule.

    Args:
        optimiser: adamw, or sgd with Nesterov momentum.
        lr: peak learning rate.
        head_lr_factor: factor on the learning rate of the classifier and attention layers (10 when a backbone is fine-tuned).
        weight_decay: decoupled; not applied to norm layers and biases.
        momentum: of sgd.
        warmup: share of the steps with a linearly growing rate; a cosine to zero follows.
        clip_norm: largest gradient norm; 0 does not clip.
        accumulate: batches whose gradients are added up before a step.
        ema: decay of an exponential moving average of the student that is evaluated and exported; 0 keeps none.
    """

    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    head_lr_factor: float = 1.0
    weight_decay: float = 0.05
    momentum: float = 0.9
    warmup: float = 0.1
    clip_norm: float = 5.0
    accumulate: int = 1
    ema: float = 0.0

    def __post_init__(self) -> None:
        _require("optim.lr", self.lr, self.lr > 0, "above 0")
        _require("optim.warmup", self.warmup, 0 <= self.warmup <= 1, "in [0, 1]")
        _require("optim.accumulate", self.accumulate, self.accumulate >= 1, "at least 1")
        _require("optim.ema", self.ema, 0 <= self.ema < 1, "in [0, 1)")
        for key in ("head_lr_factor", "weight_decay", "momentum", "clip_norm"):
            _require(f"optim.{key}", getattr(self, key), getattr(self, key) >= 0, "0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, on what, and what is kept.

    Args:
        epochs: passes over the training clips.
        steps: optimiser steps; overrides epochs.
        device: auto, cpu, cuda or mps.
        devices: devices to use; more than one wants a launcher (torchrun).
        precision: 32-true, 16-mixed or bf16-mixed.
        threads: CPU threads of the tensor library; 0 leaves its default.
        seed: decides the initial weights, the sampling and the augmentation.
        eval_every: epochs between validations (where there is a `val` subset); 0 validates at the end only.
        patience: validations without a better top-1 before training stops early; 0 never stops early.
        save_every_s: seconds between checkpoints.
        log_every: steps between rows of metrics.jsonl.
        tensorboard: also write TensorBoard event files.
        compile: compile the student with torch.compile.
    """

    epochs: float = 30
    steps: int | None = None
    device: str = "auto"
    devices: int = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    threads: int = 0
    seed: int = 0
    eval_every: float = 0
    patience: int = 0
    save_every_s: float = 60
    log_every: int = 10
    tensorboard: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        _require("train.epochs", self.epochs, 0 < self.epochs < math.inf, "above 0")
        _require("train.steps", self.steps, self.steps is None or self.steps >= 1, "at least 1")
        for key in ("devices", "log_every"):
            _require(f"train.{key}", getattr(self, key), getattr(self, key) >= 1, "at least 1")
        for key in ("threads", "eval_every", "patience", "save_every_s"):
            _require(f"train.{key}", getattr(self, key), getattr(self, key) >= 0, "0 or more")


def _require(key: str, value: object, holds: bool, what: str) -> None:
    if not holds:
        raise ConfigError(f"{key} must be {what}, not {value}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on.

    Args:
        name: folder of the run below `runs`; by default task and data set.
        task: the method, a name of TASKS.
        view: what the student sees: rgb or flow.
        teacher: checkpoint or run folder of the teacher, for tasks that have one.
        teacher_settings: settings over this configuration with which the teacher is trained first, where `teacher` is a run that is not
            there or not finished. Without them a missing teacher is an error.
        init: checkpoint whose student gives the initial weights.
        runs: folder of all runs.
        data: clips and batches.
        model: the student.
        optim: optimiser and schedule.
        train: length, device and seed.
        method: settings of the task.
    """

    name: str | None = None
    task: str = "supervised"
    view: Literal["rgb", "flow"] = "rgb"
    teacher: str | None = None
    teacher_settings: dict[str, Any] | None = None
    init: str | None = None
    runs: str = "runs"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    method: Any = None


def load_config(path: Path | str | None = None, *, settings: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """A run's configuration from a YAML file, then nested `settings`, then flags in `overrides` (--data.root DIR).

    `method` in the file is that of the file's task: where `settings` choose another task, it is left out.
    Only plain values are read: no tag, class path or import in a file is followed. Raises ConfigError with the file, the line and the
    nearest known name for an unknown key, and with the expected type for a wrong value.
    """
    source = str(path) if path is not None else "settings"
    tree = read_yaml(Path(path)) if path is not None else _Tree({}, {})
    content = merge(_without_other_method(tree.content, settings or {}), settings or {})
    task = _chosen_task(content, overrides, source)
    _check_keys(content, task, tree.lines, source)
    _check_overrides(overrides, task)
    places = _Places(source, tree.lines, overrides)
    config = _typed(content, overrides, task, places)
    object.__setattr__(config, "_places", places)  # no field: it is neither compared nor saved
    return config


def _without_other_method(content: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A file's content, without the settings of its method if `settings` choose another task than the file does."""
    other = settings.get("task", content.get("task")) != content.get("task")
    return {key: value for key, value in content.items() if not (other and key == "method")}


def place_of(config: RunConfig, key: str) -> str:
    """Where a setting of a configuration was given, for messages: `file:line`, `--key on the command line`, or its key alone."""
    places: _Places | None = getattr(config, "_places", None)
    if places is None or not (places.flag(key) or key in places.lines):
        return key
    return places.of(key) if places.flag(key) else f"{key} in {places.of(key)}"


def config_stem(config: RunConfig) -> str:
    """Name of the file that a configuration was read from, without its extension; "" where there is none."""
    places: _Places | None = getattr(config, "_places", None)
    return Path(places.source).stem if places is not None and places.lines else ""


@dataclass(frozen=True)
class _Places:
    """Where a setting was given: a file and its lines by dotted key, and the command line over it."""

    source: str
    lines: Mapping[str, int]
    overrides: Sequence[str]

    def of(self, key: str) -> str:
        """`file:line` of a key, or that it was on the command line."""
        if self.flag(key):
            return f"--{key} on the command line"
        return f"{self.source}:{self.lines[key]}" if key in self.lines else self.source

    def flag(self, key: str) -> bool:
        """Whether a key was given on the command line."""
        return any(word.split("=")[0] == f"--{key}" for word in self.overrides)

    def named_in(self, message: str) -> str:
        """Where the first given setting that a message names was given; a message may leave out the sections that a key lies in."""
        names = re.findall(r"[a-z]\w*(?:\.\w+)+", message)
        flags = [word[2:].split("=")[0] for word in self.overrides if word.startswith("--")]
        for key in (*flags, *self.lines):
            if any(key == name or key.endswith(f".{name}") for name in names):
                return self.of(key)
        return self.source


@dataclass(frozen=True)
class _Tree:
    """A YAML document and the line on which each dotted key stands."""

    content: dict[str, Any]
    lines: dict[str, int]


def read_yaml(path: Path) -> _Tree:
    """Read a YAML mapping of plain values. Raises ConfigError if the file is missing, is no YAML, or has tags that build objects."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        close = nearest(path.name, [file.name for file in path.parent.glob("*.y*ml")]) if path.parent.is_dir() else None
        raise ConfigError(f"config not found: {path}", **({"did_you_mean": path.parent / close} if close else {})) from None
    try:
        content = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read {path}", reason=" ".join(str(error).split())) from error
    if content is None:
        return _Tree({}, {})
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not a {type(content).__name__}")
    lines: dict[str, int] = {}
    _collect_lines(node, "", lines, path)
    return _Tree(content, lines)


def _collect_lines(node: Any, prefix: str, lines: dict[str, int], path: Path) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name, line = f"{prefix}{key.value}", key.start_mark.line + 1
        if name in lines:
            raise ConfigError(f"'{name}' is set twice", where=f"{path}:{lines[name]} and {path}:{line}", to_mend="remove one")
        lines[name] = line
        _collect_lines(value, f"{name}.", lines, path)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the nested values of `over` put in; neither is changed. Keys of `over` may be dotted."""
    result = dict(base)
    for key, value in over.items():
        head, _, rest = key.partition(".")
        value = {rest: value} if rest else value
        below = result.get(head)
        result[head] = merge(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return result


def _chosen_task(content: Mapping[str, Any], overrides: Sequence[str], source: str) -> str:
    task = content.get("task", "supervised")
    for number, word in enumerate(overrides):
        if word.startswith("--task="):
            task = word.removeprefix("--task=")
        elif word == "--task" and number + 1 < len(overrides):
            task = overrides[number + 1]
    if task not in TASKS:
        raise unknown_name("task", str(task), TASKS, where=f"task in {source}")
    return str(task)


def known_keys(task: str) -> set[str]:
    """Every dotted key of a configuration with this task."""
    return (
        {key for key in _keys_below(RunConfig, "") if not key.startswith("method")}
        | _keys_below(TASKS[task].Config, "method.")
        | {"method"}
    )


def _sections(task: str) -> set[str]:
    """The dotted keys that hold settings, not a value."""
    return {key.rpartition(".")[0] for key in known_keys(task)} | {"method"}


def _without_empty_sections(content: Mapping[str, Any], sections: set[str], prefix: str = "") -> dict[str, Any]:
    """A section without anything below it (`train:` alone) is as good as not there."""
    return {
        key: _without_empty_sections(value, sections, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in content.items()
        if not (value is None and f"{prefix}{key}" in sections)
    }


def _keys_below(kind: type, prefix: str) -> set[str]:
    hints = typing.get_type_hints(kind)
    keys = set()
    for entry in dataclasses.fields(kind):
        keys.add(f"{prefix}{entry.name}")
        if dataclasses.is_dataclass(hints[entry.name]):
            keys |= _keys_below(typing.cast(type, hints[entry.name]), f"{prefix}{entry.name}.")
    return keys


def _check_keys(content: Mapping[str, Any], task: str, lines: Mapping[str, int], source: str) -> None:
    known = known_keys(task)
    sections = _sections(task)
    for key, value in _flat_items(content, ""):
        if key in sections and value is not None and not isinstance(value, Mapping):
            where = f"{source}:{lines[key]}" if key in lines else source
            raise ConfigError(f"'{key}' is a section of settings, not one value", where=where, found=value)
        if key in known or key.startswith("teacher_settings."):
            continue
        where = f"{source}:{lines[key]}" if key in lines else source
        close = nearest(key, known)
        meant = {"did_you_mean": close} if close else {}
        raise ConfigError(f"unknown setting '{key}'", where=where, **meant)


def _flat_items(content: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    items = []
    for key, value in content.items():
        items.append((f"{prefix}{key}", value))
        if isinstance(value, Mapping):
            items += _flat_items(value, f"{prefix}{key}.")
    return items


def _check_overrides(overrides: Sequence[str], task: str) -> None:
    known = known_keys(task)
    for word in overrides:
        key = word[2:].split("=")[0]
        if word.startswith("--") and key not in known:
            close = nearest(key, known)
            raise ConfigError(f"unknown setting '--{key}'", **({"did_you_mean": f"--{close}"} if close else {}), where="command line")


def settings_parser(task: str) -> ArgumentParser:
    """The parser behind YAML, flags and help of a configuration with this task."""
    parser = ArgumentParser(exit_on_error=False, prog="settings", add_help=False)
    parser.add_class_arguments(RunConfig, skip={"method"})
    parser.add_class_arguments(TASKS[task].Config, "method")
    return parser


def _typed(content: Mapping[str, Any], overrides: Sequence[str], task: str, places: _Places) -> RunConfig:
    parser = settings_parser(task)
    try:
        values = parser.parse_object(_without_empty_sections(content, _sections(task)))
        if overrides:
            values = parser.parse_args(list(overrides), namespace=values)
        return RunConfig(**vars(parser.instantiate(values)))
    except Exception as error:
        raise _wrong_value(error, places) from error


def _wrong_value(error: Exception, places: _Places) -> ConfigError:
    """The error of a value that has a wrong type or is refused by its dataclass; jsonargparse wraps the latter."""
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, VidkdError):
            lines = {"where": places.named_in(cause.what), **cause.lines}
            return ConfigError(cause.what, **{label.replace(" ", "_"): text for label, text in lines.items()})
    reason = " ".join(str(error).split())
    named = re.search(r"(?:Parser key \"|argument --)([\w.]+)", reason)
    if named is None:
        return ConfigError("a setting has a wrong value", where=places.source, reason=reason)
    return ConfigError(f"'{named[1]}' has a wrong value", where=places.of(named[1]), reason=reason)


def teacher_config(config: RunConfig) -> RunConfig | None:
    """The run that trains the teacher: this configuration with `teacher_settings` over it; None where they are not set.

    Raises ConfigError if `teacher` does not name the folder of a run.
    """
    if config.teacher_settings is None:
        return None
    if config.teacher is None or Path(config.teacher).suffix:
        raise ConfigError("teacher_settings needs `teacher` to name the folder of a run", found=f"teacher: {config.teacher}")
    own = {key: value for key, value in as_dict(config).items() if key not in ("teacher", "teacher_settings", "method", "init")}
    folder = Path(config.teacher)
    place = {"name": folder.name, "runs": str(folder.parent), "task": "supervised"}
    return load_config(settings=merge(merge(own, place), config.teacher_settings))


def as_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain nested values, for YAML and for checkpoints."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML that `load_config` reads back to the same configuration."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True)
