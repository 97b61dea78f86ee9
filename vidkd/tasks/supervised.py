"""Plain supervised classification of one view: the teacher's own training, and the baseline of every comparison."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidkd.losses import attention_uniform_kl
from vidkd.tasks.task import Batch, Task, TaskConfig, attention_support


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(TaskConfig):
    """Settings of supervised training.

    Args:
        prior_weight: weight of the divergence of the attention maps from the uniform map; 0 leaves it out.
    """

    prior_weight: float = 0.0


class Supervised(Task):
    """Cross-entropy, and on request a uniform prior on the attention maps."""

    Config = SupervisedConfig
    needs_teacher = False

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the student's view."""
        output = self.predict(batch)
        losses = {"label": self.label_loss(output, batch)}
        losses["loss"] = losses["label"]
        if self.config.prior_weight > 0 and output.attention:
            over = attention_support(self.student)
            losses["prior"] = torch.stack([attention_uniform_kl(map_, over=over) for map_ in output.attention.values()]).sum()
            losses["loss"] = losses["loss"] + self.config.prior_weight * losses["prior"]
        return losses
