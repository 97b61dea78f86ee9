"""The methods, a file each, and `TASKS`, which finds them by name: ours, and those that other packages register."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vidkd.base.errors import ConfigError, first_line
from vidkd.models import VideoClassifier
from vidkd.tasks.anticipation import Anticipation
from vidkd.tasks.attention_distillation import AttentionDistillation
from vidkd.tasks.attention_transfer import AttentionTransfer
from vidkd.tasks.d3d import D3D
from vidkd.tasks.distilled_probe import DistilledProbe
from vidkd.tasks.generalized_distillation import GeneralizedDistillation
from vidkd.tasks.linear_probe import LinearProbe
from vidkd.tasks.logits_kd import LogitsKD
from vidkd.tasks.mars import Mars
from vidkd.tasks.motion_attention import MotionAttention
from vidkd.tasks.nearest_neighbour import NearestNeighbour
from vidkd.tasks.supervised import Supervised
from vidkd.tasks.task import Batch, Task, TaskConfig

GROUP = "vidkd.tasks"
"""The group of entry points by which an installed package registers a method: `name = "package.module:TaskClass"`."""

OWN: Mapping[str, type[Task]] = {
    "supervised": Supervised,
    "anticipation": Anticipation,
    "attention_distillation": AttentionDistillation,
    "attention_transfer": AttentionTransfer,
    "d3d": D3D,
    "distilled_probe": DistilledProbe,
    "generalized_distillation": GeneralizedDistillation,
    "linear_probe": LinearProbe,
    "logits_kd": LogitsKD,
    "mars": Mars,
    "motion_attention": MotionAttention,
    "nearest_neighbour": NearestNeighbour,
}


class Tasks(Mapping[str, Any]):
    """The methods by name, each passed through `part`. A registered one is imported when it is looked up, not before.

    A name of ours cannot be registered again. Looking one up raises ConfigError if its package cannot be imported or names no `Task`.
    """

    def __init__(self, part: Callable[[type[Task]], Any] = lambda task: task) -> None:
        self._part = part

    def __getitem__(self, name: str) -> Any:
        return self._part(OWN[name] if name in OWN else _load(_registered()[name]))

    def __iter__(self) -> Iterator[str]:
        return iter([*OWN, *(name for name in _registered() if name not in OWN)])

    def __len__(self) -> int:
        return len(list(iter(self)))


TASKS: Mapping[str, type[Task]] = Tasks()
TASK_CONFIGS: Mapping[str, type] = Tasks(lambda task: task.Config)


@functools.cache
def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> type[Task]:
    package = entry.dist.name if entry.dist is not None else entry.module
    try:
        kind = entry.load()
    except Exception as error:
        raise ConfigError(
            f"task '{entry.name}' of the package {package} cannot be imported",
            entry_point=entry.value,
            reason=f"{type(error).__name__}: {first_line(error)}",
            hint=f"update or remove {package}",
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise ConfigError(f"task '{entry.name}' of the package {package} is no subclass of vidkd.tasks.Task", entry_point=entry.value)
    return kind


def build_task(
    name: str,
    config: Any,
    student: VideoClassifier,
    teacher: VideoClassifier | None = None,
    more_teachers: Sequence[VideoClassifier] = (),
) -> Task:
    """The task of this name. Raises ConfigError as `check_teacher` does, and for more teachers where it matches more than their logits."""
    kind = TASKS[name]
    check_teacher(name, given=teacher is not None)
    task = kind(config if config is not None else kind.Config(), student, teacher)
    task.teach_together(more_teachers)
    return task


def check_teacher(name: str, *, given: bool) -> None:
    """Raise ConfigError where the teacher of this task is missing, or one is given to a task that has none."""
    if TASKS[name].needs_teacher and not given:
        raise ConfigError(f"task '{name}' needs a teacher", hint="teacher: runs/<run of the teacher>   (or --teacher on the command line)")
    if not TASKS[name].needs_teacher and given:
        raise ConfigError(f"task '{name}' has no teacher, but one is given", hint="remove `teacher`")


__all__ = ["TASKS", "TASK_CONFIGS", "Batch", "Task", "TaskConfig", "build_task", "check_teacher"]
