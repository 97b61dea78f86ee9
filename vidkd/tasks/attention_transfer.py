"""Attention transfer (Zagoruyko & Komodakis, ICLR 2017): the student is active where the teacher is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.losses import attention_transfer
from vidkd.models import VideoClassifier
from vidkd.tasks.task import Batch, Task, TaskConfig, teacher_output


@dataclass(frozen=True, kw_only=True)
class AttentionTransferConfig(TaskConfig):
    """Settings of attention transfer.

    Args:
        beta: weight (1e3 in the authors' code, for the `code` form on 8x8 maps).
        form: `code` or `paper`, see `vidkd.losses.attention_transfer`.
        stages: stages whose maps are matched, the same names in both networks; by default the last two of the student.
        reference_size: positions of the map for which beta is meant (`code` form); none leaves the weight shrinking with the map.
    """

    beta: float = 1e3
    form: Literal["paper", "code"] = "code"
    stages: tuple[str, ...] = ()
    reference_size: int | None = None

    def __post_init__(self) -> None:
        if self.reference_size is not None and (self.form == "paper" or self.reference_size < 1):
            raise ConfigError(f"method.reference_size is a positive number of positions, for form=code only: {self.reference_size}")


class AttentionTransfer(Task):
    """CE + beta * attention transfer, summed over stages."""

    Config = AttentionTransferConfig

    def __init__(self, config: AttentionTransferConfig, student: VideoClassifier, teacher: VideoClassifier | None = None) -> None:
        super().__init__(config, student, teacher)
        self.stages = config.stages or tuple(student.backbone.stages[-2:])
        for model in (student, teacher):
            for stage in self.stages:
                if model is not None and stage not in model.backbone.stages:
                    raise unknown_name(f"stage of {model.config.backbone}", stage, model.backbone.stages, where="method.stages")

    def matched_stages(self) -> tuple[Sequence[str], Sequence[str]]:
        """The same of both."""
        return self.stages, self.stages

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Label loss and the distance of the activation maps."""
        output, teacher = self.predict(batch), teacher_output(self, batch)
        losses = {
            "label": self.label_loss(output, batch),
            "transfer": attention_transfer(
                [output.features[stage] for stage in self.stages],
                [teacher.features[stage] for stage in self.stages],
                form=self.config.form,
                reference_size=self.config.reference_size,
            ),
        }
        losses["loss"] = losses["label"] + self.config.beta * losses["transfer"]
        return losses
