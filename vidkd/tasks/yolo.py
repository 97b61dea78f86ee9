"""Supervised training of a detector with yolo heads."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.losses.yolo import YoloLossOptions, yolo_loss
from vidkd.losses.yolo_targets import Truths
from vidkd.models.darknet import Darknet
from vidkd.tasks.task import Batch, Trainable


@dataclass(frozen=True, kw_only=True)
class YoloConfig(YoloLossOptions):
    """Settings of the yolo loss."""

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ValueError as error:
            raise ConfigError(f"method: {error}") from error


class YoloDetection(Trainable):
    """A detector that learns from true boxes."""

    Config = YoloConfig

    def __init__(self, config: YoloConfig | None, student: Darknet) -> None:
        super().__init__()
        self.config = config or YoloConfig()
        self.student: Darknet = student

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of `vidkd.losses.yolo.yolo_loss`, a sum over cells and a mean over images, and its three terms.

        batch: "image" uint8 (B, 3, H, W), and for each image "boxes" (N, 4) x1 y1 x2 y2 in its pixels, "labels" (N,) and "ignore" (N,).
        """
        terms = yolo_loss(self.student(pixels(batch["image"])), truths_of(batch), self.student.heads, options=self.config)
        return {"loss": terms.total, "box": terms.box, "objectness": terms.objectness, "classes": terms.classes}

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Of the last convolution of every head."""
        return self.student.head_parameters()


def pixels(images: Tensor) -> Tensor:
    """uint8 images as the network takes them: float in [0, 1]."""
    return images.float() / 255


def truths_of(batch: Batch) -> list[Truths]:
    """The true boxes of every image of a batch."""
    rows = zip(batch["boxes"], batch["labels"], batch["ignore"], strict=True)
    return [Truths(boxes=boxes, labels=labels, ignore=ignore) for boxes, labels, ignore in rows]
