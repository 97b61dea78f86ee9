"""Logits distillation: the student matches the teacher's softened class probabilities (Hinton et al. 2015)."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from vidkd.base.fields import Positive, Share
from vidkd.losses import logits_kd
from vidkd.tasks.task import Batch, Task, TaskConfig, answers_of, logits_of, sum_over_labels, teacher_output


@dataclass(frozen=True, kw_only=True)
class LogitsKDConfig(TaskConfig):
    """Settings of logits distillation.

    Args:
        temperature: softens both sides.
        alpha: share of the soft term; the label loss has the rest.
    """

    temperature: Positive = 4.0
    alpha: Share = 0.9


class LogitsKD(Task):
    """(1 - alpha) * CE + alpha * T^2 * KL(teacher || student); the soft term is the mean over all clips, labelled or not."""

    Config = LogitsKDConfig
    matches_logits = only_logits = True

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Hard and soft label loss."""
        output, teacher = self.predict(batch), teacher_output(self, batch)
        soften = partial(logits_kd, temperature=self.config.temperature)
        losses = {
            "label": self.label_loss(output, batch),
            "soft": sum_over_labels(soften, answers_of(output), logits_of(teacher)),
        }
        losses["loss"] = (1 - self.config.alpha) * losses["label"] + self.config.alpha * losses["soft"]
        return losses
