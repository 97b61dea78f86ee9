"""The configuration of a run that trains a classifier of clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import ConfigError
from vidkd.base.settings import as_dict, load_settings, merge
from vidkd.data.config import DataConfig
from vidkd.engine.loop_config import LoopConfig, OptimConfig, TrainConfig
from vidkd.models import ModelConfig
from vidkd.tasks import OWN, TASK_CONFIGS, TASKS
from vidkd.tasks.task import SolvedTask


@dataclass(frozen=True, kw_only=True)
class RunConfig(LoopConfig):
    """Everything that a run depends on.

    Args:
        name: folder of the run below `runs`; by default task and data set.
        task: the method, a name of TASKS.
        view: what the student sees: rgb or flow.
        teacher: checkpoint or run folder of the teacher, for tasks that have one.
        teacher_settings: settings over this configuration with which the teacher is trained first, where `teacher` is a run that is not
            there or not finished. Without them a missing teacher is an error.
        more_teachers: further teachers, whose class probabilities are averaged with those of `teacher` (two streams), for tasks that match
            nothing else of it; they are trained runs or checkpoints.
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
    more_teachers: list[str] = field(default_factory=list)
    init: str | None = None
    runs: str = "runs"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    method: Any = None

    def __post_init__(self) -> None:
        solved = solved_task(self.task)
        if (self.task == "supervised" or (solved is not None and not solved.needs_teacher)) and self.data.unlabelled == "use":
            raise ConfigError(f"task {self.task} learns nothing from clips without a label", hint="data.unlabelled: none")
        if self.more_teachers and self.teacher is None:
            raise ConfigError("more_teachers are given, but no teacher", hint="teacher: runs/<the first of them>")
        if self.answers_for_frames:
            self.data.observe.judged_frames(self.data.window)

    @property
    def answers_for_frames(self) -> bool:
        """Whether one pass over a whole clip gives the answer at every observed fraction."""
        return self.model.temporal.answers == "frames" and self.data.observe.protocol == "whole"

    @property
    def judged_fractions(self) -> tuple[float, ...]:
        """The observed fractions at which its student is judged; none where it is judged once."""
        observe = self.data.observe
        return observe.fractions if self.answers_for_frames or observe.protocol == "early" else ()

    @classmethod
    def tasks(cls) -> Mapping[str, type]:
        """The settings of every task of clips."""
        return TASK_CONFIGS

    @classmethod
    def unused(cls, task: str, /) -> tuple[str, ...]:
        """What names a teacher, for a task that has none."""
        return () if TASKS[task].needs_teacher else ("teacher", "teacher_settings", "more_teachers")


def solved_task(name: str) -> type[SolvedTask] | None:
    """The task of this name if it is solved, without gradient steps."""
    task = OWN.get(name)
    return task if task is not None and issubclass(task, SolvedTask) else None


def check_solvable(config: RunConfig) -> None:
    """Raise ConfigError as `SolvedTask.check`, of a task that is solved."""
    if (task := solved_task(config.task)) is not None:
        task.check(config.model, config.init)


def load_config(path: Path | str | None = None, *, settings: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """A run's configuration from a YAML file, then nested `settings`, then flags; raises ConfigError. See `load_settings`."""
    return load_settings(RunConfig, path, settings=settings, overrides=overrides)


def teacher_config(config: RunConfig) -> RunConfig | None:
    """The run that trains the teacher: this configuration with `teacher_settings` over it; None where they are not set.

    Raises ConfigError if `teacher` does not name the folder of a run.
    """
    if config.teacher_settings is None:
        return None
    if config.teacher is None or Path(config.teacher).suffix:
        raise ConfigError("teacher_settings needs `teacher` to name the folder of a run", found=f"teacher: {config.teacher}")
    own = {
        key: value
        for key, value in as_dict(config).items()
        if key not in ("teacher", "teacher_settings", "more_teachers", "method", "init")
    }
    folder = Path(config.teacher)
    labelled = {"unlabelled": "none", "unlabelled_manifest": None}
    place = {"name": folder.name, "runs": str(folder.parent), "task": "supervised", "data": labelled}
    return load_config(settings=merge(merge(own, place), config.teacher_settings))
