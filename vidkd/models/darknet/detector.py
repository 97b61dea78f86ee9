"""A darknet network as a detector: frames in, boxes in their pixels out."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms

from vidkd.base.errors import ConfigError
from vidkd.losses.yolo_heads import HeadSpec, anchor_sizes, boxes_at, split_heads
from vidkd.models.darknet.net import Darknet
from vidkd.models.darknet.onnx import OnnxForward
from vidkd.models.darknet.weights import load_weights
from vidkd.runtime.detections import Detections
from vidkd.runtime.letterbox import Letterbox, ResizeMode
from vidkd.runtime.metadata import read_names

GREY = 128
"""Padding: the 0.5 of darknet's letterbox in 8 bits."""

Runtime = Literal["eager", "onnx"]


class DarknetDetector:
    """A `vidkd.runtime.detector.Detector`. The network is held in eval mode, on `device`.

    class_names: one for each class of the network. score_threshold: boxes score at least that (objectness times class, in [0, 1]); a box
    gets only its best class. nms_iou: of boxes of one class that overlap by more than this, the best stays. resize: how frames meet the
    input; darknet's own letterbox by default. runtime: what runs the forward pass: torch (eager), or ONNX Runtime on a
    CPU (onnx), which is faster and follows the weights of the network as they change (`OnnxForward`).
    Raises ConfigError if names and classes differ in number or a setting is out of range; for the runtime onnx also as `OnnxForward` does.
    """

    def __init__(
        self,
        net: Darknet,
        class_names: tuple[str, ...],
        *,
        score_threshold: float = 0.25,
        nms_iou: float = 0.45,
        device: torch.device | str = "cpu",
        resize: ResizeMode = "darknet",
        runtime: Runtime = "eager",
    ) -> None:
        if len(class_names) != net.classes:
            hint = "give the names file of this cfg"
            raise ConfigError(f"{len(class_names)} class names for a network of {net.classes} classes", cfg=net.config.where(0), hint=hint)
        for name, value in (("score_threshold", score_threshold), ("nms_iou", nms_iou)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], not {value}")
        self.device = torch.device(device)
        self.net = net.to(self.device).eval()
        self.class_names = class_names
        self.score_threshold, self.nms_iou, self.resize, self.runtime = score_threshold, nms_iou, resize, runtime
        self._onnx = OnnxForward(self.net) if runtime == "onnx" else None

    @classmethod
    def open(
        cls,
        cfg: Path | str,
        weights: Path | str,
        names: Path | str,
        *,
        input_size: tuple[int, int] | None = None,
        **settings: Any,
    ) -> "DarknetDetector":
        """From a cfg, its weights and a file with one class name per line. input_size: (width, height) instead of that of the cfg.

        settings: those of the class.
        Raises ConfigError for a cfg or names file that cannot be used, CheckpointError for weights that do not fit.
        """
        net = Darknet.from_cfg(cfg, input_size=input_size)
        load_weights(net, weights)
        return cls(net, read_names(names), **settings)

    def copy(self) -> "DarknetDetector":
        """The same with a network of its own, of equal weights."""
        return self.with_net(copy.deepcopy(self.net))

    def with_net(self, net: Darknet) -> "DarknetDetector":
        """The same with another network of as many classes."""
        return DarknetDetector(
            net,
            self.class_names,
            score_threshold=self.score_threshold,
            nms_iou=self.nms_iou,
            device=self.device,
            resize=self.resize,
            runtime=self.runtime,
        )

    def __call__(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """RGB uint8 (B, H, W, 3) -> B results, each sorted by falling score."""
        return self.end(self.begin(frames))

    @torch.inference_mode()
    def begin(self, frames: NDArray[np.uint8]) -> tuple[list[Tensor], Letterbox]:
        """See `StagedDetector`: the raw heads, and how to come back."""
        images, letterbox = self.prepare(frames)
        if not len(images):
            return [], letterbox
        return self.net(images) if self._onnx is None else self._onnx(images)[0], letterbox

    @torch.inference_mode()
    def end(self, begun: tuple[list[Tensor], Letterbox]) -> list[Detections]:
        """See `StagedDetector`."""
        heads, letterbox = begun
        return self.finish(heads, letterbox) if heads else []

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images that `prepare` made -> the raw heads, and (B, D) the means over positions of the deepest layers before them."""
        if self._onnx is not None:
            return self._onnx(images)
        heads, layers = self.net.features(images, self.net.deep_layers)
        return heads, torch.cat([layers[layer].mean((2, 3)) for layer in self.net.deep_layers], 1)

    def follow_weights(self) -> None:
        """Make the runtime take the network's current weights now instead of at the next frame."""
        if self._onnx is not None:
            self._onnx.follow()

    def prepare(self, frames: NDArray[np.uint8]) -> tuple[Tensor, Letterbox]:
        """Frames as `__call__` takes them -> what the network takes, (B, 3, h, w) on the device, and how to come back."""
        letterbox = Letterbox.fit((frames.shape[2], frames.shape[1]), self.net.input_size, self.resize)
        width, height = self.net.input_size
        inputs = np.empty((len(frames), height, width, 3), np.uint8)
        for slot, frame in zip(inputs, frames, strict=True):
            slot[...] = letterbox.apply(frame, GREY)
        # sent as bytes, a quarter of the traffic of floats; a GPU fetches them by itself while this thread continues
        sent = torch.from_numpy(inputs).pin_memory() if self.device.type == "cuda" else torch.from_numpy(inputs)
        return sent.to(self.device, non_blocking=self.device.type == "cuda").permute(0, 3, 1, 2).float() / 255, letterbox

    @torch.no_grad()
    def finish(self, raw_heads: list[Tensor], letterbox: Letterbox, score_threshold: float | None = None) -> list[Detections]:
        """Raw heads of a batch that `prepare` made -> its detections, cut at the edges of the frame; empty boxes are left out.

        score_threshold: in place of the detector's own; with a lower one the boxes above that are the same, and weaker ones follow.
        """
        if self.device.type == "mps":  # which has no float64, see _frame
            raw_heads = [raw.cpu() for raw in raw_heads]
        found = decode_above(raw_heads, self.net.heads, self.score_threshold if score_threshold is None else score_threshold)
        return [self._frame(*parts, letterbox) for parts in found]

    def _frame(self, boxes: Tensor, scores: Tensor, labels: Tensor, letterbox: Letterbox) -> Detections:
        # float64: batched_nms sets classes apart by the largest coordinate, so one huge box would cost all others their precision
        boxes, scores = boxes.double(), scores.double()
        kept = batched_nms(boxes, scores, labels, self.nms_iou)
        boxes, scores, labels = boxes[kept].cpu(), scores[kept].cpu(), labels[kept].cpu()
        found = Detections(boxes=letterbox.to_frame(boxes.numpy()).astype(np.float32), scores=scores.numpy(), labels=labels.numpy())
        found = found.clipped(letterbox.source_width, letterbox.source_height)
        return found.select(np.all(found.boxes[:, 2:] > found.boxes[:, :2], axis=1))


def decode_above(raw_heads: Sequence[Tensor], heads: Sequence[HeadSpec], least: float) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each image boxes (N, 4), scores (N,) and labels (N,) of the cells whose best class scores at least `least`.

    boxes: x1 y1 x2 y2 in input pixels, not clipped; scores: objectness times class, in [0, 1]. N runs over heads, anchors, rows, columns.
    Classes are squashed only of cells whose objectness reaches `least`, for no score passes its objectness. Raises ValueError if the raw
    heads are not as many as `heads`, or do not have their channels.
    Source: Redmon & Farhadi 2018 (YOLOv3, section 2.1); scale_x_y as in Bochkovskiy et al. 2020 (YOLOv4, "eliminate grid sensitivity").
    """
    cells = split_heads(raw_heads, heads)
    return [_best_cells([each[image] for each in cells], heads, least) for image in range(len(cells[0]))]


def _best_cells(cells: Sequence[Tensor], heads: Sequence[HeadSpec], least: float) -> tuple[Tensor, Tensor, Tensor]:
    """`decode_above` of one image, its cells (A, h, w, 5 + C) per head."""
    found = []
    for each, head in zip(cells, heads, strict=True):
        objectness = each[..., 4].sigmoid()
        anchor, row, column = (objectness >= least).nonzero(as_tuple=True)
        rows = each[anchor, row, column]
        scores, labels = (objectness[anchor, row, column, None] * rows[:, 5:].sigmoid()).max(-1)
        boxes = boxes_at(rows, torch.stack([column, row], -1), anchor_sizes(head, rows)[anchor], head)
        found.append((boxes, scores, labels))
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    kept = scores >= least
    return boxes[kept], scores[kept], labels[kept]
