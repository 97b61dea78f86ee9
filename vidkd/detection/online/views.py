"""What one step along a stream saw and did."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.detection.metrics.agreement import expected_disagreement
from vidkd.detection.online.oracle import Answer
from vidkd.detection.online.update import UpdateRecord
from vidkd.detection.policies.policy import Observation
from vidkd.runtime.detections import Detections
from vidkd.runtime.letterbox import Letterbox

GREY_WIDTH = 96


@dataclass(frozen=True, eq=False, kw_only=True)
class Look:
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


@dataclass(frozen=True, kw_only=True)
class FrameRecord:
    """What happened at one frame.

    called: whether the oracle was called on it. version: how many updates the weights behind its boxes had seen. answered: the key frame
    of an answer that came in at this frame: itself in step with the stream, an earlier one beside it; None for none. disagreement, update:
    of that answer. failed: why a call gave no answer. seconds: of each part of the step, by name; the only field that varies
    between runs.
    """

    frame_index: int
    time_s: float | None
    called: bool
    version: int
    answered: int | None = None
    disagreement: float | None = None
    update: UpdateRecord | None = None
    failed: str | None = None
    seconds: Mapping[str, float]

    def as_row(self) -> dict[str, Any]:
        """Plain values for a line of JSON, those of an update beside the others; None for a number that is not finite."""
        row = {name: value for name, value in vars(self).items() if name not in ("update", "seconds")}
        update = {} if self.update is None else vars(self.update)
        numbers = {
            name: value if not isinstance(value, float) or math.isfinite(value) else None for name, value in {**row, **update}.items()
        }
        return {**numbers, "seconds": dict(self.seconds)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One frame of a stream: what the student saw, before anything could be learned from the frame, what was known, and what came of it.

    answer: the oracle's on this very frame, None where it was not called, failed, or answers later.
    """

    look: Look
    observation: Observation
    record: FrameRecord
    answer: Answer | None = None

    @property
    def detections(self) -> Detections:
        """The student's own boxes, those that are scored."""
        return self.look.detections


def small_grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB (H, W, 3) uint8 -> (h, 96) uint8, aspect kept, four pixels averaged for each and blurred: noise and coding leave little in it."""
    height = max(1, round(frame.shape[0] * GREY_WIDTH / frame.shape[1]))
    # picking pixels first takes a fifth of the time of averaging all of a large frame
    picked = cv2.resize(frame, (2 * GREY_WIDTH, 2 * height), interpolation=cv2.INTER_NEAREST)
    grey = cv2.resize(cv2.cvtColor(picked, cv2.COLOR_RGB2GRAY), (GREY_WIDTH, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(grey, (5, 5), 0), np.uint8)


class Watcher:
    """Makes the observations of a stream: remembers the last key frame, and the loss of the last one that was answered."""

    def __init__(self) -> None:
        self._key_index: int | None = None
        self._key_grey: NDArray[np.uint8] | None = None
        self._key_features: NDArray[np.float32] | None = None
        self._last_loss = 0.0

    def observe(self, frame: NDArray[np.uint8], look: Look) -> Observation:
        """The frame (H, W, 3) as a policy sees it."""
        index = look.detections.frame_index
        grey = small_grey(frame)
        known = self._key_grey is not None and self._key_grey.shape == grey.shape
        return Observation(
            frame_index=index,
            grey=grey,
            features=look.features,
            detections=look.detections,
            doubt=expected_disagreement(look.scores),
            boxes=len(look.scores),
            frames_since=index if self._key_index is None else index - self._key_index,
            last_loss=self._last_loss,
            key_grey=self._key_grey if known else None,
            key_features=self._key_features,
        )

    def called(self, observation: Observation) -> None:
        """The frame has become the last key frame."""
        self._key_index, self._key_grey, self._key_features = observation.frame_index, observation.grey, observation.features

    def told(self, loss: float) -> None:
        """An answer has come, and the student's loss on it was this; a loss that is not finite is passed over."""
        if np.isfinite(loss):
            self._last_loss = loss

    def state(self) -> dict[str, Any]:
        """The last key frame and loss, as plain values and tensors."""
        return {
            "key_index": self._key_index,
            "key_grey": None if self._key_grey is None else torch.tensor(self._key_grey),
            "key_features": None if self._key_features is None else torch.tensor(self._key_features),
            "last_loss": self._last_loss,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        grey, features = state["key_grey"], state["key_features"]
        self._key_index, self._last_loss = state["key_index"], state["last_loss"]
        self._key_grey = None if grey is None else grey.numpy()
        self._key_features = None if features is None else features.numpy()
