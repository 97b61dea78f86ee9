"""The interface of a method to the engine: named losses from a batch, predictions from a batch, and the state to save."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.losses.reduction import clip_mean, widen
from vidkd.models import ClassifierOutput, ModelConfig, VideoClassifier
from vidkd.models.backbone import stage_parameters
from vidkd.models.kept import KeptClassifier

Batch = Mapping[str, Any]
TEACHER = "teacher"
"""The entry of a batch with kept activations of the teacher, in place of its view; of further teachers `teacher1`, and so on."""


class Trainable(nn.Module):
    """A student and the loss that it learns from; what else trains (projectors) is saved with it.

    student: the network that is kept and judged.
    """

    student: nn.Module

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The training step (so that wrappers for several devices see it)."""
        return self.training_step(batch)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name; "loss" is the one to minimise, the others are its terms before weighting."""
        raise NotImplementedError

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the student that a fine-tuning teaches faster (`optim.head_lr_factor`)."""
        return ()

    def parameters_by_stage(self) -> Sequence[Sequence[nn.Parameter]]:
        """Parameters of the student's backbone by stage, from its input on (`optim.layer_decay`); empty for a network without stages."""
        return ()

    def saved_state(self) -> dict[str, Tensor]:
        """What training changes besides the student (projectors); teachers are left out."""
        left_out = ("teacher.", "more_teachers.", "student.")
        return {name: value for name, value in self.state_dict().items() if not name.startswith(left_out)}

    def load_saved_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `saved_state` gave. Raises CheckpointError if the names differ."""
        expected = set(self.saved_state())
        if expected != set(state):
            raise CheckpointError("the checkpoint's task has other parts", expected=sorted(expected), found=sorted(state))
        self.load_state_dict(state, strict=False)


class KeptNetwork(Protocol):
    """What gives the same maps for the same sample in every epoch, so that they can be kept (`data.features`)."""

    @property
    def view(self) -> str:
        """What it sees of a clip."""
        ...

    def kept_identity(self) -> str:
        """What decides the maps, besides the sample."""
        ...

    def kept_maps(self, clip: Tensor) -> Mapping[str, Tensor]:
        """The maps (B, C, T, H, W) of a raw clip by stage."""
        ...


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Settings that every task has.

    Args:
        label_smoothing: share of the label's mass spread over all classes.
    """

    label_smoothing: float = 0.0


class Task(Trainable):
    """A student, for most methods a frozen teacher, and the loss that ties them.

    `views` names the batch entries that a training step reads; the student sees `student.view` only.
    The teacher is in eval mode whatever `train` is called with, gets no gradient, and is not saved.

    Data with several kinds of labels (EPIC-KITCHENS: action, verb and noun): the label loss and every loss of logits are summed over
    all of them. A task that matches logits (`matches_logits`) refuses a teacher that lacks a kind of label which the student learns.
    One that matches nothing but logits (`only_logits`) can have several teachers.
    """

    Config: ClassVar[type] = TaskConfig
    needs_teacher: ClassVar[bool] = True
    matches_logits: bool = False
    only_logits: bool = False

    def __init__(self, config: Any, student: VideoClassifier, teacher: VideoClassifier | None = None) -> None:
        super().__init__()
        self.config = config
        self.student: VideoClassifier = student
        self.teacher = teacher
        self.more_teachers: nn.ModuleList = nn.ModuleList()
        if teacher is not None:
            _check_classes(teacher, student, self.matches_logits)
            teacher.requires_grad_(False).eval()

    def teach_together(self, others: Iterable[VideoClassifier]) -> None:
        """Let further teachers answer with the first, by the mean of the class probabilities. Raises ConfigError unless `only_logits`."""
        for other in others:
            if not self.only_logits:
                raise ConfigError(
                    f"{type(self).__name__} matches more of its teacher than logits, so it has one teacher",
                    hint="task: logits_kd or generalized_distillation, or a teacher that is one network",
                )
            _check_classes(other, self.student, self.matches_logits)
            self.more_teachers.append(other.requires_grad_(False).eval())

    @property
    def teachers(self) -> dict[str, VideoClassifier]:
        """Every teacher, by the entry of a batch that holds its kept activations."""
        found = [] if self.teacher is None else [self.teacher, *self.more_teachers]
        return {f"{TEACHER}{number or ''}": model for number, model in enumerate(found)}

    def view_of(self, teacher: VideoClassifier) -> str:
        """The entry of a batch that a teacher sees."""
        return teacher.view

    @property
    def views(self) -> tuple[str, ...]:
        """Views that a training batch must hold."""
        return tuple(dict.fromkeys([self.student.view, *map(self.view_of, self.teachers.values())]))

    @property
    def kept_student(self) -> KeptNetwork | None:
        """The student, as far as it is frozen; its features come in the entry of its view."""
        return None if self.student.config.freeze is None else KeptClassifier(self.student, matched=self.matched_stages()[0])

    @property
    def kept_teachers(self) -> dict[str, tuple[str, KeptNetwork]]:
        """What teaches, as far as its maps can be kept, and what it sees; by the entry of a batch in which the maps then come."""
        matched = self.matched_stages()[1]
        return {
            entry: (self.view_of(teacher), KeptClassifier(teacher, matched=matched, whole=True)) for entry, teacher in self.teachers.items()
        }

    def train(self, mode: bool = True) -> "Task":
        """As of any module, but teachers stay in eval mode."""
        super().train(mode)
        for teacher in self.teachers.values():
            teacher.eval()
        return self

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Of the classifier and attention layers."""
        return self.student.head_parameters()

    def parameters_by_stage(self) -> Sequence[Sequence[nn.Parameter]]:
        """Of the student's backbone."""
        backbone = self.student.backbone
        return [[backbone.get_parameter(name) for name in names] for names in stage_parameters(backbone).values()]

    def matched_stages(self) -> tuple[Sequence[str], Sequence[str]]:
        """The stages of the student and those of the teacher whose feature maps a loss of this task reads."""
        return (), ()

    def predict(self, batch: Batch) -> ClassifierOutput:
        """The student's output on a batch that holds its view."""
        output: ClassifierOutput = self.student(batch[self.student.view], batch.get("observed"))
        return output

    def label_loss(self, output: ClassifierOutput, batch: Batch) -> Tensor:
        """Cross-entropy on the labelled clips: mean over their weights; 0 when the batch holds none. Summed over all kinds of labels.

        A clip without a label of one kind (-1) is left out of that kind only. Of a student that answers after every frame, the mean over
        its answers too.
        """

        def loss(logits: Tensor, label: Tensor) -> Tensor:
            loss_B = functional.cross_entropy(
                widen(logits), label.clamp(min=0), reduction="none", label_smoothing=self.config.label_smoothing
            )
            return clip_mean(loss_B, for_answers(batch["weight"], output) * (label >= 0))

        return sum_over_labels(loss, answers_of(output), labels_of(output, batch))


class Rows(NamedTuple):
    """What a frozen network makes of the training clips, N rows, one for each window that is read of a clip.

    vectors: (N, D) pooled. labels: kind of label, "" for the main one -> (N,), -1 for none. folds: (N,) parts of whole groups, from 0,
    for cross-validation. taught: kind of label -> class probabilities (N, K) of the teacher, if the task has one.
    """

    vectors: Tensor
    labels: Mapping[str, Tensor]
    folds: Tensor
    taught: Mapping[str, Tensor] = {}


class SolvedTask(Task):
    """A head that is found at once from the vectors of a frozen network, without gradient steps; `optim` and the length are not read."""

    needs_teacher = False

    @classmethod
    def check(cls, model: ModelConfig, init: str | None) -> None:
        """Raise ConfigError for a network of which more than the head would have to be trained, or with random weights."""
        if model.freeze is None:  # a stage is as good as all: nothing trains, and it names the activations that are kept
            raise ConfigError("this task trains only the head, so the backbone must be frozen", hint="model.freeze: all")
        if model.weights is None and init is None:
            raise ConfigError("this task needs a trained backbone", hint="model.weights: pretrained, or a file; or --init runs/<run>")
        attention, temporal = model.attention.pooling, model.temporal
        if temporal.answers != "clip":
            raise ConfigError("this task answers for whole clips", hint="model.temporal.answers: clip")
        if init is None and (attention != "mean" or temporal.pooling not in ("mean", "difference")):
            raise ConfigError(
                "this task cannot train what pools the frames",
                found=f"attention {attention}, temporal {temporal.pooling}",
                hint="--init runs/<run>, whose maps and pooling are kept; or model.attention.pooling: mean, model.temporal.pooling: mean",
            )

    def __init__(self, config: Any, student: VideoClassifier, teacher: VideoClassifier | None = None) -> None:
        super().__init__(config, student, teacher)
        for name, _ in self.heads.values():
            if not isinstance(student.get_submodule(name), nn.Linear):
                raise ConfigError(
                    f"this task finds a linear head, and that of `init` is a {type(student.get_submodule(name)).__name__}",
                    hint="an init whose head is one linear layer, as `supervised` and `linear_probe` leave it",
                )

    @property
    def heads(self) -> dict[str, tuple[str, int]]:
        """Of every kind of label the name of its linear layer in the student, and the number of classes."""
        student = self.student
        return {"": ("fc", student.num_classes), **{name: (f"target_fc.{name}", count) for name, count in student.targets.items()}}

    def solve(self, rows: Rows) -> dict[str, Any]:
        """Find the head of every kind of label; returns how it was found, as plain values."""
        raise NotImplementedError


def logits_of(output: ClassifierOutput) -> dict[str, Tensor]:
    """The logits of every kind of label: (B, K) under "", then those of the targets by name."""
    return {"": output.logits, **output.targets}


def answers_of(output: ClassifierOutput) -> dict[str, Tensor]:
    """What a student is taught by: `logits_of`, or those of every frame, (B*T, K), the frames of a clip in a row."""
    return {kind: logits.flatten(0, 1) for kind, logits in output.frames.items()} or logits_of(output)


def for_answers(values: Tensor, output: ClassifierOutput) -> Tensor:
    """Values (B, ...) of clips, once for each of the student's answers."""
    return values.repeat_interleave(output.frames[""].shape[1], dim=0) if output.frames else values


def labels_of(output: ClassifierOutput, batch: Batch) -> dict[str, Tensor]:
    """The labels (B,) of every kind that `output` has logits for, keyed as in `logits_of`; -1 for none."""
    return {"": batch["label"], **{name: batch[f"label_{name}"] for name in output.targets}}


def sum_over_labels(loss: Callable[..., Tensor], *by_kind: Mapping[str, Tensor]) -> Tensor:
    """The sum of a loss over the kinds of labels of the first mapping, each called with its entries of all mappings.

    Entries with fewer rows than the first, of clips where those are of frames (`answers_of`), have each row repeated.
    """

    def of_kind(kind: str) -> Tensor:
        first, *others = (entries[kind] for entries in by_kind)
        return loss(first, *(other.repeat_interleave(len(first) // len(other), dim=0) for other in others))

    return torch.stack([of_kind(kind) for kind in by_kind[0]]).sum()


def _check_classes(teacher: VideoClassifier, student: VideoClassifier, matches_logits: bool) -> None:
    if teacher.num_classes != student.num_classes:
        raise CheckpointError(
            f"the teacher knows {teacher.num_classes} classes, the data set has {student.num_classes}",
            hint="train the teacher on the same manifest",
        )
    unlike = [name for name, count in student.targets.items() if teacher.targets.get(name) != count]
    if matches_logits and unlike:
        raise CheckpointError(
            f"this task matches the logits of every kind of label, and the teacher was not trained on {', '.join(unlike)} of this data set",
            teacher=", ".join(f"{name}: {count} classes" for name, count in teacher.targets.items()) or "one kind of label",
            student=", ".join(f"{name}: {count} classes" for name, count in student.targets.items()),
            hint="train the teacher on the same manifest",
        )


def require_teacher(task: Task) -> VideoClassifier:
    """The task's teacher. Raises CheckpointError if it has none."""
    if task.teacher is None:
        raise CheckpointError(
            f"{type(task).__name__} learns from a teacher, and none is given", hint="teacher: runs/<name of the teacher's run>"
        )
    return task.teacher


def attention_support(model: VideoClassifier) -> Literal["frame", "clip"]:
    """What a map of this classifier sums to one over."""
    return "frame" if model.config.attention.softmax == "spatial" else "clip"


def teacher_output(task: Task, batch: Batch) -> ClassifierOutput:
    """The teacher's output on its own view of the batch, without gradients; of several teachers only logits, those of their mean."""
    require_teacher(task)
    with torch.no_grad():
        outputs: list[ClassifierOutput] = [
            teacher(batch[entry] if entry in batch else batch[task.view_of(teacher)]) for entry, teacher in task.teachers.items()
        ]
        if len(outputs) == 1:
            return outputs[0]
        mean = {kind: _mean_logits([logits_of(output)[kind] for output in outputs]) for kind in ("", *task.student.targets)}
    return ClassifierOutput(mean.pop(""), {}, {}, outputs[0].pooled.new_empty(0), mean)


def _mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """Logarithms (B, K) of the mean of several networks' class probabilities: logits whose softmax is that mean."""
    return torch.stack([widen(each).log_softmax(1) for each in logits]).logsumexp(0) - math.log(len(logits))
