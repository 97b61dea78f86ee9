"""What every distillation method is to the engine: named losses from a batch, predictions from a batch, and what to save."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidkd.base.errors import CheckpointError
from vidkd.losses.reduction import clip_mean, widen
from vidkd.models import ClassifierOutput, VideoClassifier
from vidkd.tasks.trainable import Batch, Trainable


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Settings that every task has.

    Args:
        label_smoothing: share of the label's mass spread over all classes.
    """

    label_smoothing: float = 0.0


class Task(Trainable):
    """A student, for most methods a frozen teacher, and the loss that ties them.

    `views` names the batch entries that a training step reads; the student sees `student.view` alone.
    The teacher is in eval mode whatever `train` is called with, gets no gradient, and is not saved.
    """

    Config: ClassVar[type] = TaskConfig
    needs_teacher: ClassVar[bool] = True

    def __init__(self, config: Any, student: VideoClassifier, teacher: VideoClassifier | None = None) -> None:
        super().__init__()
        self.config = config
        self.student: VideoClassifier = student
        self.teacher = teacher
        if teacher is not None:
            if teacher.num_classes != student.num_classes:
                raise CheckpointError(
                    f"the teacher knows {teacher.num_classes} classes, the data set has {student.num_classes}",
                    to_mend="train the teacher on the same manifest",
                )
            teacher.requires_grad_(False).eval()

    @property
    def views(self) -> tuple[str, ...]:
        """Views that a training batch must hold."""
        return tuple(dict.fromkeys([self.student.view, *([self.teacher.view] if self.teacher is not None else [])]))

    def train(self, mode: bool = True) -> "Task":
        """As of any module, but the teacher stays in eval mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Of the classifier and attention layers."""
        return self.student.head_parameters()

    def predict(self, batch: Batch) -> ClassifierOutput:
        """The student's output on a batch that holds its view."""
        output: ClassifierOutput = self.student(batch[self.student.view], batch.get("observed"))
        return output

    def label_loss(self, output: ClassifierOutput, batch: Batch) -> Tensor:
        """Cross-entropy on the labelled clips: mean over their weights; 0 when the batch holds none. Summed over all kinds of labels.

        A clip without a label of one kind (-1) is left out of that kind alone.
        """
        every = [(output.logits, batch["label"]), *((logits, batch[f"label_{name}"]) for name, logits in output.targets.items())]
        losses = []
        for logits, label in every:
            loss = functional.cross_entropy(
                widen(logits), label.clamp(min=0), reduction="none", label_smoothing=self.config.label_smoothing
            )
            losses.append(clip_mean(loss, batch["weight"] * (label >= 0)))
        return torch.stack(losses).sum()


def require_teacher(task: Task) -> VideoClassifier:
    """The task's teacher. Raises CheckpointError if it has none."""
    if task.teacher is None:
        raise CheckpointError(
            f"{type(task).__name__} learns from a teacher, and none is given", to_mend="teacher: runs/<name of the teacher's run>"
        )
    return task.teacher


def attention_support(model: VideoClassifier) -> Literal["frame", "clip"]:
    """What a map of this classifier sums to one over."""
    return "frame" if model.config.attention.softmax == "spatial" else "clip"


def teacher_output(task: Task, batch: Batch) -> ClassifierOutput:
    """The teacher's output on its own view of the batch, without gradients."""
    teacher = require_teacher(task)
    with torch.no_grad():
        output: ClassifierOutput = teacher(batch[teacher.view])
    return output
