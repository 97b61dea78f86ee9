"""The distillation methods, a file each, and the dict that names them."""

from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.models import VideoClassifier
from vidkd.tasks.anticipation import Anticipation
from vidkd.tasks.attention_distillation import AttentionDistillation
from vidkd.tasks.attention_transfer import AttentionTransfer
from vidkd.tasks.d3d import D3D
from vidkd.tasks.generalized_distillation import GeneralizedDistillation
from vidkd.tasks.logits_kd import LogitsKD
from vidkd.tasks.mars import Mars
from vidkd.tasks.supervised import Supervised
from vidkd.tasks.task import Task, TaskConfig
from vidkd.tasks.trainable import Batch

TASKS: dict[str, type[Task]] = {
    "supervised": Supervised,
    "anticipation": Anticipation,
    "attention_distillation": AttentionDistillation,
    "attention_transfer": AttentionTransfer,
    "d3d": D3D,
    "generalized_distillation": GeneralizedDistillation,
    "logits_kd": LogitsKD,
    "mars": Mars,
}


def build_task(name: str, config: Any, student: VideoClassifier, teacher: VideoClassifier | None = None) -> Task:
    """The task of this name. Raises ConfigError as `check_teacher` does."""
    kind = TASKS[name]
    check_teacher(name, given=teacher is not None)
    return kind(config if config is not None else kind.Config(), student, teacher)


def check_teacher(name: str, *, given: bool) -> None:
    """Raise ConfigError where the teacher of this task is missing, or one is given to a task that has none."""
    if TASKS[name].needs_teacher and not given:
        raise ConfigError(
            f"task '{name}' needs a teacher", to_mend="teacher: runs/<run of the teacher>   (or --teacher on the command line)"
        )
    if not TASKS[name].needs_teacher and given:
        raise ConfigError(f"task '{name}' has no teacher, but one is given", to_mend="remove `teacher`")


__all__ = ["TASKS", "Batch", "Task", "TaskConfig", "build_task", "check_teacher"]
