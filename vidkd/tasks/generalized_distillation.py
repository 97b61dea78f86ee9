"""Generalized distillation (Lopez-Paz et al., ICLR 2016) with the teacher's view, flow, as privileged information."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from vidkd.base.fields import Positive, Share
from vidkd.losses import generalized_distillation
from vidkd.tasks.task import Batch, Task, TaskConfig, answers_of, for_answers, labels_of, logits_of, sum_over_labels, teacher_output


@dataclass(frozen=True, kw_only=True)
class GeneralizedDistillationConfig(TaskConfig):
    """Settings of generalized distillation.

    Args:
        temperature: softens only the teacher.
        imitation: share of the soft term (lambda of the paper).
        mode: `paper` has no T^2, `code` weights the soft term by T^2 as the authors' code does.
    """

    temperature: Positive = 2.0
    imitation: Share = 0.5
    mode: Literal["paper", "code"] = "paper"


class GeneralizedDistillation(Task):
    """(1 - imitation) * CE(label) + imitation * CE(softened teacher), the student's own softmax untempered."""

    Config = GeneralizedDistillationConfig
    matches_logits = only_logits = True

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """The mixture of hard and imitation loss; clips without a label count in the imitation term only."""
        output, teacher = self.predict(batch), teacher_output(self, batch)
        mixture = partial(
            generalized_distillation,
            temperature=self.config.temperature,
            imitation=self.config.imitation,
            mode=self.config.mode,
            label_weight=for_answers(batch["weight"], output),
            label_smoothing=self.config.label_smoothing,
        )
        loss = sum_over_labels(mixture, answers_of(output), logits_of(teacher), labels_of(output, batch))
        return {"label": self.label_loss(output, batch).detach(), "loss": loss}
