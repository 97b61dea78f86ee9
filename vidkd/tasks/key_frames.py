"""Training of a key-frame selector: from what the student shows of each frame, where the oracle would disagree."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vidkd.base.fields import Count
from vidkd.losses.selection import above_threshold_bce, disagreement_huber, order_in_window
from vidkd.models.selector import KeyFrameLSTM
from vidkd.tasks.task import Batch, Trainable

LossName = Literal["disagreement_huber", "above_threshold_bce", "order_in_window"]


@dataclass(frozen=True, kw_only=True)
class KeyFrameConfig:
    """The meaning of a selector's output.

    Args:
        loss: disagreement_huber: the number predicted is the target; above_threshold_bce: the log odds that it is above
            `threshold`; order_in_window: any number in the order of the target.
        threshold: of above_threshold_bce, in the unit of the target.
        window: of order_in_window, in frames.
    """

    loss: LossName = "disagreement_huber"
    threshold: float = 0.3
    window: Count = 50


class KeyFrameSelection(Trainable):
    """A selector that learns how far student and oracle disagree, the oracle seen on every frame of training."""

    Config = KeyFrameConfig

    def __init__(self, config: KeyFrameConfig | None, student: KeyFrameLSTM) -> None:
        super().__init__()
        self.config = config or KeyFrameConfig()
        self.student: KeyFrameLSTM = student

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the settings, a mean over the frames (pairs of frames) that count.

        batch: "inputs" (B, T, D + 5) as `vidkd.models.selector.selector_input` makes them, stretches of streams from an empty memory;
        "target" (B, T) and "counts" (B, T) bool, false where a stretch has ended.
        """
        predicted, _ = self.student(batch["inputs"])
        target, counts = batch["target"], batch["counts"]
        if self.config.loss == "above_threshold_bce":
            loss = above_threshold_bce(predicted, target, threshold=self.config.threshold, mask=counts)
        elif self.config.loss == "order_in_window":
            loss = order_in_window(predicted, target, window=self.config.window, mask=counts)
        else:
            loss = disagreement_huber(predicted, target, mask=counts)
        return {"loss": loss}
