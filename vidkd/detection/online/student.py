"""A darknet detector that learns: boxes, raw heads and deep features from one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.models.darknet import with_added_head
from vidkd.models.darknet.detector import GREY, DarknetDetector
from vidkd.models.darknet.graph import trace
from vidkd.runtime.detections import Detections
from vidkd.runtime.letterbox import Letterbox

if TYPE_CHECKING:
    from vidkd.detection.online.update import Update

FAINTEST = 0.05
"""Least score of the boxes by which a student's doubt is measured, whatever it shows."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StudentOutput:
    """What the student saw in a frame, from one forward pass.

    detections: in pixels of the frame. scores: of all boxes from FAINTEST on, or from the detector's threshold if that is lower, falling.
    heads: raw, (1, A * (5 + C), h, w) each, without gradient. features: (D,) float32, the means over positions of the deepest layers before
    the heads. image: (H, W, 3) uint8, the frame in the network's input; letterbox: its place there.
    """

    detections: Detections
    scores: NDArray[np.float32]
    heads: tuple[Tensor, ...]
    features: NDArray[np.float32]
    image: NDArray[np.uint8]
    letterbox: Letterbox


class Student:
    """The light detector of a stream: `net` learns, labels index `class_names`.

    Its network stays in eval mode always, so norm statistics never move and dropout is off.
    """

    def __init__(self, detector: DarknetDetector) -> None:
        self.detector, self.net, self.class_names = detector, detector.net, detector.class_names
        nodes = trace(self.net.config)
        self.feature_count = sum(nodes[layer].shape[0] for layer in self.net.deep_layers)

    @torch.inference_mode()
    def detect(self, frame: NDArray[np.uint8], *, frame_index: int = 0, time_s: float | None = None) -> StudentOutput:
        """RGB uint8 (H, W, 3) -> the student's output."""
        letterbox = Letterbox.fit((frame.shape[1], frame.shape[0]), self.net.input_size, self.detector.resize)
        image = letterbox.apply(frame, GREY)
        heads, pooled = self.detector.forward(self.inputs([image]))
        threshold = self.detector.score_threshold
        (found,) = self.detector.finish(heads, letterbox, min(threshold, FAINTEST))
        return StudentOutput(
            detections=found.select(found.scores >= threshold).at(frame_index, time_s),
            scores=found.scores,
            heads=tuple(heads),
            features=pooled[0].float().cpu().numpy(),
            image=image,
            letterbox=letterbox,
        )

    def inputs(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Images (H, W, 3) of the network's size, as `StudentOutput.image`, as the network takes them: (B, 3, H, W) on its device."""
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
