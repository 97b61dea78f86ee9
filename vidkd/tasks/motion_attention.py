"""Motion attention: optical flow itself shows an RGB student where to look; no teacher network, no label needed for it. Ours.

The map of attention distillation (arXiv 1904.03249) with the share of the flow's magnitude in place of a flow network's map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidkd.base.errors import ConfigError
from vidkd.base.fields import NotNegative
from vidkd.models import VideoClassifier
from vidkd.tasks.attention_distillation import map_losses, of_other_clips
from vidkd.tasks.task import TEACHER, Batch, KeptNetwork, Task, TaskConfig, attention_support


@dataclass(frozen=True, kw_only=True)
class MotionAttentionConfig(TaskConfig):
    """Settings of motion attention.

    Args:
        label_weight: of the label loss; 0 learns only the map, for a head that `linear_probe` solves after it.
        weight: of the divergence from the motion map, and of the appearance map's (two maps) from the uniform map.
        teacher_map: `same` clip's motion; `other` clip's is the control that must not help.
    """

    label_weight: NotNegative = 1.0
    weight: float = 1.0
    teacher_map: Literal["same", "other"] = "same"


class MotionAttention(Task):
    """label_weight * CE + weight * (KL(motion map || student's motion map) + KL(student's appearance map || uniform)).

    Clips without a label count in the last two.
    """

    Config = MotionAttentionConfig
    needs_teacher = False

    def __init__(self, config: MotionAttentionConfig, student: VideoClassifier, teacher: VideoClassifier | None = None) -> None:
        super().__init__(config, student, teacher)
        if student.config.attention.pooling == "mean":
            raise ConfigError("the student has no attention map", hint="model.attention.pooling: soft, or probabilistic")
        if attention_support(student) != "frame":
            raise ConfigError("the motion map sums to one over each frame", hint="model.attention.softmax: spatial")
        self.motion = MotionMap()

    @property
    def views(self) -> tuple[str, ...]:
        """The student's view, and flow."""
        return tuple(dict.fromkeys([self.student.view, "flow"]))

    @property
    def kept_teachers(self) -> dict[str, tuple[str, KeptNetwork]]:
        """The motion map, which is small where the flow is not."""
        return {TEACHER: (self.motion.view, self.motion)}

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Label loss and the divergences of the maps."""
        output, target = self.predict(batch), self.teacher_map(batch)
        if self.config.teacher_map == "other":
            target = of_other_clips(target)
        maps = map_losses(output.attention, target, "teacher||student", "frame")
        label = self.label_loss(output, batch)
        return {"label": label, **maps, "loss": self.config.label_weight * label + self.config.weight * sum(maps.values())}

    def teacher_map(self, batch: Batch) -> Tensor:
        """The motion map of a batch, log-probabilities (B, T, H, W)."""
        kept: Mapping[str, Tensor] = batch[TEACHER] if TEACHER in batch else self.motion.kept_maps(batch["flow"])
        target: Tensor = self.motion(kept[MotionMap.STAGE])
        return target


class MotionMap(nn.Module):
    """The share of every cell of a frame in the motion: magnitude of the flow, averaged over `CELL` pixels, plus `FLOOR_PX`, normalised."""

    view = "flow"
    STAGE = "motion"
    CELL = 8
    FLOOR_PX = 0.02
    """Added to the magnitude everywhere, in pixels a sampled step: where nothing moves the map is even."""

    def kept_identity(self) -> str:
        """The size of a cell decides what is kept."""
        return f"{self.STAGE} {self.CELL}"

    def kept_maps(self, clip: Tensor) -> dict[str, Tensor]:
        """Flow in pixels (B, 2 for each field of the stack, T, H, W) -> mean magnitude of each cell (B, 1, T, H / CELL, W / CELL)."""
        fields = clip.float().reshape(len(clip), -1, 2, *clip.shape[2:])
        magnitude = fields.norm(dim=2).mean(1, keepdim=True)
        return {self.STAGE: functional.avg_pool3d(magnitude, (1, self.CELL, self.CELL), ceil_mode=True)}

    def forward(self, magnitude: Tensor) -> Tensor:
        """Magnitude (B, 1, T, H, W) -> log-probabilities (B, T, H, W), each frame's sum to one."""
        kept = magnitude.squeeze(1).float() + self.FLOOR_PX
        return torch.log(kept / kept.sum(dim=(2, 3), keepdim=True))
