"""A darknet detector that can be looked through: boxes, raw heads and deep features from one forward pass."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.detection.online.views import Look
from vidkd.losses.yolo_heads import HeadSpec
from vidkd.models.darknet import Darknet, with_added_head
from vidkd.models.darknet.detector import GREY, DarknetDetector
from vidkd.models.darknet.graph import trace
from vidkd.runtime.letterbox import Letterbox

if TYPE_CHECKING:
    from vidkd.detection.online.update import Update

FAINTEST = 0.05
"""Least score of the boxes by which a student's doubt is measured, whatever it shows."""


class Student:
    """The light detector of a stream. Its network stays in eval mode always, so norm statistics never move and dropout is off."""

    def __init__(self, detector: DarknetDetector) -> None:
        self.detector = detector
        nodes = trace(self.net.config)
        self.feature_count = sum(nodes[layer].shape[0] for layer in self.net.deep_layers)

    @property
    def net(self) -> Darknet:
        """The network, whose weights learn."""
        return self.detector.net

    @property
    def specs(self) -> tuple[HeadSpec, ...]:
        """What its raw heads mean, for the losses."""
        return self.net.heads

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that labels index."""
        return self.detector.class_names

    @torch.inference_mode()
    def look(self, frame: NDArray[np.uint8], *, frame_index: int = 0, time_s: float | None = None) -> Look:
        """RGB uint8 (H, W, 3) -> what the student sees. Raises ValueError for another array."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame is uint8 (H, W, 3): {frame.dtype} {frame.shape}")
        letterbox = Letterbox.fit((frame.shape[1], frame.shape[0]), self.net.input_size, self.detector.resize)
        image = letterbox.apply(frame, GREY)
        heads, pooled = self.detector.forward(self.inputs([image]))
        threshold = self.detector.score_threshold
        (found,) = self.detector.finish(heads, letterbox, min(threshold, FAINTEST))
        return Look(
            detections=found.select(found.scores >= threshold).at(frame_index, time_s),
            scores=found.scores,
            heads=tuple(heads),
            features=pooled[0].float().cpu().numpy(),
            image=image,
            letterbox=letterbox,
        )

    def inputs(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Images (H, W, 3) of the network's size, as `Look.image`, in the form that the network takes: (B, 3, H, W) on its device."""
        return self.detector.prepare(np.stack(images))[0]

    def for_update(self, update: "Update", *, seed: int = 0) -> "Student":
        """The student itself, or one that has what `update` trains: where that is an added head, and it has none, another one with it.

        That one has weights of its own, the new ones drawn by `seed`, and begins by seeing what this one sees.
        Raises ConfigError as `with_added_head`.
        """
        grown = with_added_head(self.net, seed=seed) if update.trains == "added" else self.net
        return self if grown is self.net else Student(self.detector.with_net(grown))

    def copy(self) -> "Student":
        """Another student with equal weights of its own."""
        return Student(self.detector.copy())
