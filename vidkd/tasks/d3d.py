"""D3D (Stroud et al., WACV 2020): the RGB student matches the flow teacher's logits by mean squared error."""

from dataclasses import dataclass

from torch import Tensor

from vidkd.losses import logit_mse
from vidkd.tasks.task import Batch, Task, TaskConfig, answers_of, logits_of, sum_over_labels, teacher_output


@dataclass(frozen=True, kw_only=True)
class D3DConfig(TaskConfig):
    """Settings of D3D.

    Args:
        weight: of the logit term.
    """

    weight: float = 1.0


class D3D(Task):
    """CE + weight * MSE of logits."""

    Config = D3DConfig
    matches_logits = True

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Label loss and the distance of logits."""
        output, teacher = self.predict(batch), teacher_output(self, batch)
        losses = {
            "label": self.label_loss(output, batch),
            "logits": sum_over_labels(logit_mse, answers_of(output), logits_of(teacher)),
        }
        losses["loss"] = losses["label"] + self.config.weight * losses["logits"]
        return losses
