"""MARS (Crasto et al., CVPR 2019): the RGB student matches the flow teacher's pooled features."""

from dataclasses import dataclass

from torch import Tensor, nn

from vidkd.losses import pooled_feature_mse
from vidkd.models import VideoClassifier
from vidkd.tasks.task import Batch, Task, TaskConfig, teacher_output


@dataclass(frozen=True, kw_only=True)
class MarsConfig(TaskConfig):
    """Settings of MARS.

    Args:
        weight: of the feature term (50 in the authors' code).
    """

    weight: float = 50.0


class Mars(Task):
    """CE + weight * MSE of the average-pooled last features; a linear projector where the widths differ (ours, trained along)."""

    Config = MarsConfig

    def __init__(self, config: MarsConfig, student: VideoClassifier, teacher: VideoClassifier | None = None) -> None:
        super().__init__(config, student, teacher)
        wide = student.backbone.channels[student.to_stage]
        target = wide if teacher is None else teacher.backbone.channels[teacher.to_stage]
        self.projector: nn.Module = nn.Identity() if wide == target else nn.Linear(wide, target)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Label loss and the distance of pooled features."""
        output, teacher = self.predict(batch), teacher_output(self, batch)
        pooled = output.features[self.student.to_stage].mean(dim=(2, 3, 4))
        target = teacher.features[self.teacher.to_stage if self.teacher else ""]
        losses = {
            "label": self.label_loss(output, batch),
            "features": pooled_feature_mse(self.projector(pooled), target.mean(dim=(2, 3, 4))),
        }
        losses["loss"] = losses["label"] + self.config.weight * losses["features"]
        return losses
