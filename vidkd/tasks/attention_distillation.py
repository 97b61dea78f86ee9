"""Attention distillation: a flow teacher shows an RGB student where to look.

Liu, Chen, Zhang, Li, Rehg 2019 (arXiv 1904.03249); re-implementation from the abstract and figure, loss and weights reconstructed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from vidkd.base.errors import ConfigError
from vidkd.base.fields import NotNegative, Positive
from vidkd.losses import attention_kl, attention_uniform_kl, logits_kd, resize_attention
from vidkd.losses.attention import Direction, Support
from vidkd.models import VideoClassifier
from vidkd.tasks.task import Batch, Task, TaskConfig, attention_support, logits_of, sum_over_labels, teacher_output


@dataclass(frozen=True, kw_only=True)
class AttentionDistillationConfig(TaskConfig):
    """Settings of attention distillation.

    Args:
        weight: of the divergence from the teacher's map; by default log(classes), and twice that with two maps.
        prior_weight: of the divergence of the appearance map (two maps) from the uniform map; by default as `weight`.
        direction: student||teacher is KL(student || teacher).
        teacher_map: `same` clip's map; `other` clip's map is the control that must not help.
        logits_weight: of the teacher's softened logits, which are matched along with its map.
        temperature: softens the logits of both sides.
    """

    weight: float | None = None
    prior_weight: float | None = None
    direction: Literal["student||teacher", "teacher||student"] = "student||teacher"
    teacher_map: Literal["same", "other"] = "same"
    logits_weight: NotNegative = 0.0
    temperature: Positive = 4.0


class AttentionDistillation(Task):
    """CE + weight * KL(student's motion map, teacher's map) + prior_weight * KL(student's appearance map, uniform)
    + logits_weight * T^2 KL(teacher's logits || student's).

    Clips without a label count in all but the first.
    """

    Config = AttentionDistillationConfig

    def __init__(self, config: AttentionDistillationConfig, student: VideoClassifier, teacher: VideoClassifier | None = None) -> None:
        self.matches_logits = config.logits_weight > 0
        super().__init__(config, student, teacher)
        for role, model in (("student", student), ("teacher", teacher)):
            if model is not None and model.config.attention.pooling == "mean":
                raise ConfigError(f"the {role} has no attention map", hint="model.attention.pooling: probabilistic, when it is trained")
        if teacher is not None and attention_support(student) != attention_support(teacher):
            raise ConfigError("student and teacher normalise their maps differently", hint="the same model.attention.softmax in both")
        default = math.log(student.num_classes) * len(student.config.attention.map_names)
        self.weight = default if config.weight is None else config.weight
        self.prior_weight = self.weight if config.prior_weight is None else config.prior_weight

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Label loss and the divergences of the maps."""
        output, teacher = self.predict(batch), teacher_output(self, batch)
        target = teacher.attention["motion"]
        if self.config.teacher_map == "other":
            target = of_other_clips(target)
        over = attention_support(self.student)
        losses = {"label": self.label_loss(output, batch), **map_losses(output.attention, target, self.config.direction, over)}
        losses["loss"] = losses["label"] + self.weight * losses["attention"]
        if "prior" in losses:
            losses["loss"] = losses["loss"] + self.prior_weight * losses["prior"]
        if self.config.logits_weight > 0:
            soften = partial(logits_kd, temperature=self.config.temperature)
            losses["logits"] = sum_over_labels(soften, logits_of(output), logits_of(teacher))
            losses["loss"] = losses["loss"] + self.config.logits_weight * losses["logits"]
        return losses

    def teacher_map(self, batch: Batch) -> Tensor:
        """The teacher's map of a batch, log-probabilities (B, T, H, W), for pictures and measures."""
        with torch.no_grad():
            return teacher_output(self, batch).attention["motion"]


def map_losses(maps: Mapping[str, Tensor], target: Tensor, direction: Direction, over: Support) -> dict[str, Tensor]:
    """Divergence of the student's motion map (B, T, H, W) from a target on any grid, and of an appearance map from the uniform one."""
    student = maps["motion"]
    grid = (student.shape[1], student.shape[2], student.shape[3])
    losses = {"attention": attention_kl(student, resize_attention(target, grid, over=over), direction=direction, over=over)}
    if "appearance" in maps:
        losses["prior"] = attention_uniform_kl(maps["appearance"], over=over)
    return losses


def of_other_clips(maps: Tensor) -> Tensor:
    """Each clip's map (B, T, H, W) replaced by that of the clip before it. Raises ConfigError for one clip, which has no other."""
    if len(maps) < 2:
        raise ConfigError(
            "method.teacher_map=other needs two clips in every process's batch", found=len(maps), hint="a larger data.batch_size"
        )
    return maps.roll(1, dims=0)
