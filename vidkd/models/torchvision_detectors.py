"""The detectors of torchvision by name, with weights from a local file. torchvision is imported when one is opened."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidkd.base.errors import CheckpointError, unknown_name
from vidkd.models.weights import State, check_state_dict, read_weights
from vidkd.runtime.detections import Detections
from vidkd.runtime.metadata import read_names

BACKGROUND, NO_CLASS = "__background__", "N/A"
SCORE = 0.25


# the kind of head: two stages (rcnn), or one with the softmax of ssd or a sigmoid per class (dense), which can do without a background
DETECTORS: dict[str, Literal["rcnn", "dense", "ssd"]] = {
    "fasterrcnn_resnet50_fpn": "rcnn",
    "fasterrcnn_resnet50_fpn_v2": "rcnn",
    "fasterrcnn_mobilenet_v3_large_fpn": "rcnn",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "rcnn",
    "maskrcnn_resnet50_fpn": "rcnn",
    "maskrcnn_resnet50_fpn_v2": "rcnn",
    "keypointrcnn_resnet50_fpn": "rcnn",
    "retinanet_resnet50_fpn": "dense",
    "retinanet_resnet50_fpn_v2": "dense",
    "fcos_resnet50_fpn": "dense",
    "ssd300_vgg16": "ssd",
    "ssdlite320_mobilenet_v3_large": "ssd",
}
# their published weights were trained with normalisation that adds nothing to the variance
NO_EPSILON = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
RETINANET_ANCHORS = 9
_DENSE_LOGITS = "head.classification_head.cls_logits.weight"


class TorchvisionDetector:
    """A `vidkd.runtime.detector.Detector` on a detection network of torchvision, which resizes and normalises frames by itself.

    net: in eval mode, its thresholds set. class_names: those that it can find. labels: for each label of the network the index into
    class_names, -1 for one that is no class (background, numbers that COCO skips), whose boxes are dropped.
    """

    def __init__(self, net: nn.Module, class_names: tuple[str, ...], labels: NDArray[np.int64], *, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.net = net.to(self.device).eval()
        self.class_names, self._labels = class_names, labels

    @classmethod
    def open(
        cls,
        name: str,
        weights: Path | str,
        names: Path | str | None = None,
        *,
        score_threshold: float = SCORE,
        nms_iou: float | None = None,
        device: torch.device | str = "cpu",
    ) -> "TorchvisionDetector":
        """One of `DETECTORS` with the weights of a file (.pth, .pt, .safetensors), which must be a state dict; nothing is downloaded.

        names: a file with a class a line, in the order of the labels from 1 on (a first line "__background__" is label 0); without it the
        classes of torchvision's own weights. score_threshold, nms_iou: in [0, 1]; None for the network's own overlap.
        Raises ConfigError for an unknown name or a names file that cannot be used, CheckpointError for weights that
        are missing, damaged or do not fit the network and the number of its classes.
        """
        if name not in DETECTORS:
            raise unknown_name("detector of torchvision", name, DETECTORS)
        if not Path(weights).is_file():
            from torchvision.models import get_model_weights

            hint = f"fetch {get_model_weights(name).DEFAULT.url} and give that file: --weights F"
            raise CheckpointError(f"weights not found: {weights}", model=name, hint=hint)
        state = read_weights(str(weights), name)
        labels = _network_labels(name, state, names)
        net = build_detector(name, len(labels), score_threshold=score_threshold, nms_iou=nms_iou)
        _fill(net, state, name, str(weights), len(labels))
        known = [label for label, text in enumerate(labels) if text not in (BACKGROUND, NO_CLASS)]
        table = np.full(len(labels), -1, np.int64)
        table[known] = np.arange(len(known))
        return cls(net, tuple(labels[label] for label in known), table, device=device)

    def __call__(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """RGB uint8 (B, H, W, 3) -> B results, each sorted by falling score."""
        if not len(frames):
            return []
        images = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            found = self.net(list(images))
        return [self._frame(each, frames.shape[2], frames.shape[1]) for each in found]

    def _frame(self, found: Mapping[str, Tensor], width: int, height: int) -> Detections:
        boxes, scores, labels = (found[part].cpu().numpy() for part in ("boxes", "scores", "labels"))
        ours = Detections(boxes=boxes, scores=scores, labels=self._labels[labels]).clipped(width, height)
        real = (ours.labels >= 0) & np.all(ours.boxes[:, 2:] > ours.boxes[:, :2], axis=1)
        kept = ours.select(real)
        return kept.select(np.argsort(-kept.scores, kind="stable"))


def build_detector(name: str, labels: int, *, score_threshold: float, nms_iou: float | None) -> nn.Module:
    """The network of one of `DETECTORS` with random weights, in eval mode; `labels` counts the background where it has one."""
    from torchvision.models import get_model

    prefix = "box_" if DETECTORS[name] == "rcnn" else ""
    thresholds: dict[str, Any] = {f"{prefix}score_thresh": score_threshold}
    if nms_iou is not None:
        thresholds[f"{prefix}nms_thresh"] = nms_iou
    net: nn.Module = get_model(name, weights=None, weights_backbone=None, num_classes=labels, **thresholds)
    return net.eval()


def published_names(name: str) -> tuple[str, ...]:
    """The class of each label of torchvision's own weights, in its spelling; label 0 is the background."""
    from torchvision.models import get_model_weights

    return (BACKGROUND, *get_model_weights(name).DEFAULT.meta["categories"][1:])


def _network_labels(name: str, state: State, names: Path | str | None) -> tuple[str, ...]:
    """The class of each label of the network."""
    if names is None:
        return published_names(name)
    given = read_names(names)
    if given[0] == BACKGROUND:
        return given
    anchors = RETINANET_ANCHORS if "retinanet" in name else 1
    if DETECTORS[name] == "dense" and _DENSE_LOGITS in state and len(state[_DENSE_LOGITS]) == anchors * len(given):
        return given  # sigmoids need no background, and this network was trained without
    return (BACKGROUND, *given)


def _fill(net: nn.Module, state: State, name: str, source: str, labels: int) -> None:
    own = net.state_dict()
    try:
        check_state_dict(own, state, source)
    except CheckpointError as error:
        raise CheckpointError(
            f"weights do not fit torchvision's {name} with {labels} labels: {source}",
            **{word: line for word, line in error.lines.items() if word != "fix"},
            hint=f"--names F, a class a line, if it was trained on other classes; or choose another of {', '.join(DETECTORS)}",
        ) from None
    net.load_state_dict(state, strict=False)
    if name in NO_EPSILON and not any(key.endswith("num_batches_tracked") for key in state):
        # of a frozen normalisation, which counts no batches: torchvision sets its epsilon to 0 for these weights
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
