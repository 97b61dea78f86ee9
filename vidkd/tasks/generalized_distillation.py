"""Generalized distillation (Lopez-Paz et al., ICLR 2016) with the teacher's view, flow, as privileged information."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vidkd.base.errors import ConfigError
from vidkd.losses import generalized_distillation
from vidkd.models import VideoClassifier
from vidkd.tasks.task import Task, TaskConfig, teacher_output
from vidkd.tasks.trainable import Batch


@dataclass(frozen=True, kw_only=True)
class GeneralizedDistillationConfig(TaskConfig):
    """Settings of generalized distillation.

    Args:
        temperature: softens the teacher alone.
        imitation: share of the soft term (lambda of the paper).
        mode: `paper` has no T^2, `code` weights the soft term by T^2 as the authors' code does.
    """

    temperature: float = 2.0
    imitation: float = 0.5
    mode: Literal["paper", "code"] = "paper"


class GeneralizedDistillation(Task):
    """(1 - imitation) * CE(label) + imitation * CE(softened teacher), the student's own softmax untempered."""

    Config = GeneralizedDistillationConfig

    def __init__(self, config: GeneralizedDistillationConfig, student: VideoClassifier, teacher: VideoClassifier | None = None) -> None:
        super().__init__(config, student, teacher)
        if student.targets:
            raise ConfigError("generalized distillation knows one kind of label", found=f"also {', '.join(student.targets)}")

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """The mixture of hard and imitation loss; clips without a label count in the imitation term alone."""
        output = self.predict(batch)
        loss = generalized_distillation(
            output.logits,
            teacher_output(self, batch).logits,
            batch["label"].clamp(min=0),
            temperature=self.config.temperature,
            imitation=self.config.imitation,
            mode=self.config.mode,
            label_weight=batch["weight"],
            label_smoothing=self.config.label_smoothing,
        )
        return {"label": self.label_loss(output, batch).detach(), "loss": loss}
