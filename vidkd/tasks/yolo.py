"""Supervised training of a detector with yolo heads."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.losses.yolo import YoloLossOptions, yolo_loss
from vidkd.losses.yolo_targets import Truths
from vidkd.models.darknet import Darknet
from vidkd.tasks.task import Batch, Trainable


@dataclass(frozen=True, kw_only=True)
class YoloConfig:
    """Settings of the yolo loss; see `vidkd.losses.yolo.YoloLossOptions`.

    Args:
        ignore_thresh: a prediction that overlaps a true box by more than this IoU is not punished for its objectness.
        truth_thresh: a prediction that overlaps a true box by more than this IoU is taught it as if assigned; 1 never does.
        iou_thresh: a box also belongs to every anchor that it fits better than this IoU; 1 keeps it to the best.
        iou_loss: of the boxes: mse of YOLOv3, or one minus iou, giou, diou or ciou.
        class_loss: bce (each class a yes or no of its own) or cross_entropy.
        iou_normalizer: weight of the boxes; a few times 1 suits the IoU losses.
        obj_normalizer: weight of the objectness.
        cls_normalizer: weight of the classes.
        label_smoothing: of the classes, in [0, 1).
        box_iou_bound: boxes that overlap their truth by at least this IoU cost nothing; none by default.
    """

    ignore_thresh: float = 0.5
    truth_thresh: float = 1.0
    iou_thresh: float = 1.0
    iou_loss: Literal["mse", "iou", "giou", "diou", "ciou"] = "mse"
    class_loss: Literal["bce", "cross_entropy"] = "bce"
    iou_normalizer: float = 1.0
    obj_normalizer: float = 1.0
    cls_normalizer: float = 1.0
    label_smoothing: float = 0.0
    box_iou_bound: float | None = None

    def __post_init__(self) -> None:
        try:
            self.options()
        except ValueError as error:
            raise ConfigError(f"method: {error}") from error

    def options(self) -> YoloLossOptions:
        """What the loss takes."""
        return YoloLossOptions(**dataclasses.asdict(self))


class YoloDetection(Trainable):
    """A detector that learns from true boxes."""

    Config = YoloConfig

    def __init__(self, config: YoloConfig | None, student: Darknet) -> None:
        super().__init__()
        self.config = config or YoloConfig()
        self.student: Darknet = student
        self.options = self.config.options()

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of `vidkd.losses.yolo.yolo_loss`, a sum over cells and a mean over images, and its three terms.

        batch: "image" uint8 (B, 3, H, W), and for each image "boxes" (N, 4) x1 y1 x2 y2 in its pixels, "labels" (N,) and "ignore" (N,).
        """
        terms = yolo_loss(self.student(pixels(batch["image"])), truths_of(batch), self.student.heads, options=self.options)
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
