"""A linear probe that learns from a teacher's class probabilities too, of clips without a label as well, solved to convergence.

The objective is that of generalized distillation (Lopez-Paz et al., ICLR 2016, arXiv 1511.03643); its temperature softens the teacher, one
below 1, which is ours, sharpens it. That a teacher labels what has no label is self-training with a teacher of another view. Distribution
alignment is that of ReMixMatch (Berthelot et al., ICLR 2020, arXiv 1911.09785, section 3.1), over all training clips at once. Together, and
with a convex head, it is ours.
"""

from dataclasses import dataclass

import numpy as np

from vidkd.base.fields import Positive, Share
from vidkd.tasks.linear_probe import LinearProbe, LinearProbeConfig, Vectors, one_hot
from vidkd.tasks.task import Rows


@dataclass(frozen=True, kw_only=True)
class DistilledProbeConfig(LinearProbeConfig):
    """Settings of the distilled probe.

    Args:
        imitation: share of the teacher's probabilities in what is learned of a clip with a label; of one without it is all.
        temperature: the teacher's probabilities become p^(1 / temperature), normalised: below 1 they come closer to a label.
        align: before that, multiply each class by its share among the labelled clips over the teacher's mean, and normalise.
    """

    imitation: Share = 0.5
    temperature: Positive = 1.0
    align: bool = False


class DistilledProbe(LinearProbe):
    """(1 - imitation) * CE(label) + imitation * CE(teacher), and CE(teacher) of clips without a label, every row counting alike.

    The teacher, before alignment and temperature, says of a clip what its evaluation says, from its own view, frames and part of the clip.
    """

    Config = DistilledProbeConfig
    needs_teacher = matches_logits = only_logits = True

    def targets(self, rows: Rows, kind: str, classes: int) -> Vectors:
        """The mixture of label and teacher, (N, classes)."""
        labels, taught = one_hot(rows.labels[kind].numpy(), classes), rows.taught[kind].double().numpy()
        labelled = labels.sum(1, keepdims=True)
        if self.config.align:
            taught = normalised(taught * labels.sum(0) / taught.mean(0))
        taught = normalised(taught ** (1 / self.config.temperature))
        imitation = np.where(labelled, self.config.imitation, 1.0)
        return np.asarray((1 - imitation) * labels + imitation * taught, np.float64)


def normalised(rows: Vectors) -> Vectors:
    """(N, K), each row divided by its sum."""
    return np.asarray(rows / rows.sum(1, keepdims=True), np.float64)
