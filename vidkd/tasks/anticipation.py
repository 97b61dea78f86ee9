"""Anticipation: a teacher that sees the action teaches a student that sees what comes before it (Tran, Wang, Hoai, arXiv 1904.04868).

The authors' loss is not public. This is a reconstruction from the abstract: label loss, a feature term of the shift-tolerant
family, and softened logits; see `vidkd.losses.shift_tolerant`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.fields import Count, NotNegative, Positive
from vidkd.losses import logits_kd
from vidkd.losses.shift_tolerant import SHIFT_TOLERANT
from vidkd.models import ClassifierOutput, VideoClassifier
from vidkd.tasks.task import Batch, Task, TaskConfig, answers_of, logits_of, require_teacher, sum_over_labels, teacher_output

FUTURE = "future_"
"""Before the name of a view: that of the teacher's part of the clip."""
TEMPORAL = "temporal"
"""The stage after those of the backbone: frames as the temporal pooling sees them."""


@dataclass(frozen=True, kw_only=True)
class AnticipationConfig(TaskConfig):
    """Settings of anticipation.

    Args:
        feature: the loss between the feature maps of student and teacher; `position` is the one that tolerates no shift.
        feature_weight: its weight.
        logits_weight: weight of the softened logits.
        temperature: softens the logits of both sides.
        label_weight: weight of the label loss.
        stage: the student's stage whose features are matched, by default its last; `temporal` is what its temporal pooling makes of every
            frame (`model.temporal.pooling: gru` or `transformer`), a map of one position, which learns where the backbone is frozen.
        teacher_stage: the teacher's stage, likewise.
        attentive_temperature: softness of the attention of `attentive`.
        radius: the largest shift along frames, rows and columns that costs nothing, in positions of the coarser of the two maps, half of
            one added; none is any (`window`).
        regularisation: of the entropic transport, in units of the cost (`transport`).
        iterations: of Sinkhorn's algorithm (`transport`).
    """

    feature: Literal["none", "position", "pooled", "gram", "attentive", "window", "transport"] = "gram"
    feature_weight: NotNegative = 1.0
    logits_weight: NotNegative = 0.0
    temperature: Positive = 4.0
    label_weight: NotNegative = 1.0
    stage: str | None = None
    teacher_stage: str | None = None
    attentive_temperature: Positive = 0.25
    radius: tuple[int, int, int] | None = (1, 1, 1)
    regularisation: Positive = 0.05
    iterations: Count = 6

    def __post_init__(self) -> None:
        if self.radius is not None and min(self.radius) < 0:
            raise ConfigError(f"method.radius must be 0 or more in each direction, not {self.radius}")

    @property
    def matches_features(self) -> bool:
        """Whether there is a feature term."""
        return self.feature != "none" and self.feature_weight > 0

    def of_feature(self) -> dict[str, Any]:
        """Keyword arguments of the chosen feature loss."""
        own: dict[str, dict[str, Any]] = {
            "attentive": {"temperature": self.attentive_temperature},
            "window": {"radius": self.radius},
            "transport": {"regularisation": self.regularisation, "iterations": self.iterations},
        }
        return own.get(self.feature, {})


class Anticipation(Task):
    """label_weight * CE + feature_weight * D(student's map, teacher's map) + logits_weight * T^2 KL(teacher || student).

    Clips without a label count in the last two. A 1x1x1 convolution brings the student's channels to the teacher's where they differ
    (ours, trained along and saved with the task).
    """

    Config = AnticipationConfig

    def __init__(self, config: AnticipationConfig, student: VideoClassifier, teacher: VideoClassifier | None = None) -> None:
        self.matches_logits = config.logits_weight > 0
        self.only_logits = not config.matches_features
        super().__init__(config, student, teacher)
        if not config.matches_features and config.logits_weight == 0:
            raise ConfigError(
                "anticipation has nothing to learn from its teacher",
                found="no feature term and method.logits_weight=0",
                hint="task: supervised, which sees the same part of each clip",
            )
        taught = require_teacher(self)
        self.stage = _stage(student, config.stage, "method.stage")
        self.teacher_stage = _stage(taught, config.teacher_stage, "method.teacher_stage")
        if config.matches_features and not _learns(student, self.stage):
            raise ConfigError(
                f"method.feature '{config.feature}' matches features of '{self.stage}', which no trained parameter changes",
                where=f"model.freeze: {student.config.freeze}",
                hint="method.stage: temporal with model.temporal.pooling: gru, or model.freeze: an earlier stage",
            )
        inputs, outputs = _channels(student, self.stage), _channels(taught, self.teacher_stage)
        same = inputs == outputs or not config.matches_features
        self.projector: nn.Module = nn.Identity() if same else nn.Conv3d(inputs, outputs, kernel_size=1)

    def view_of(self, teacher: VideoClassifier) -> str:
        """The teacher's own part, which the student does not see."""
        return FUTURE + teacher.view

    def matched_stages(self) -> tuple[Sequence[str], Sequence[str]]:
        """Those of the feature term."""
        return ((self.stage,), (self.teacher_stage,)) if self.config.matches_features else ((), ())

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Label, feature and logits terms, each before its weight."""
        output, teacher = self.predict(batch), self.future_output(batch)
        losses = {"label": self.label_loss(output, batch)}
        losses["loss"] = self.config.label_weight * losses["label"]
        if self.config.matches_features:
            student_map, teacher_map = self.projector(_map(output, self.stage)), _map(teacher, self.teacher_stage)
            losses[self.config.feature] = SHIFT_TOLERANT[self.config.feature](student_map, teacher_map, **self.config.of_feature())
            losses["loss"] = losses["loss"] + self.config.feature_weight * losses[self.config.feature]
        if self.config.logits_weight > 0:
            soften = partial(logits_kd, temperature=self.config.temperature)
            losses["logits"] = sum_over_labels(soften, answers_of(output), logits_of(teacher))
            losses["loss"] = losses["loss"] + self.config.logits_weight * losses["logits"]
        return losses

    def future_output(self, batch: Batch) -> ClassifierOutput:
        """The teacher's output on its part of each clip, without gradients."""
        return teacher_output(self, batch)


def _stage(model: VideoClassifier, name: str | None, key: str) -> str:
    stages = (*model.backbone.stages, TEMPORAL)
    if name is not None and name not in stages:
        raise unknown_name(f"stage of {model.config.backbone}", name, stages, where=key)
    return name or model.backbone.stages[-1]


def _channels(model: VideoClassifier, stage: str) -> int:
    return model.temporal.frame_channels if stage == TEMPORAL else model.backbone.channels[stage]


def _map(output: ClassifierOutput, stage: str) -> Tensor:
    """Features (B, C, T, H, W); H = W = 1 of the temporal ones."""
    if stage != TEMPORAL:
        return output.features[stage]
    assert output.sequence is not None
    return output.sequence.transpose(1, 2)[..., None, None]


def _learns(model: VideoClassifier, stage: str) -> bool:
    """Whether training changes the features of a stage."""
    order, frozen = model.backbone.stages, model.config.freeze
    if stage == TEMPORAL:
        return frozen != "all" or bool([*model.temporal.parameters(), *model.pooling.parameters()])
    return frozen is None or (frozen != "all" and order.index(stage) > order.index(frozen))
