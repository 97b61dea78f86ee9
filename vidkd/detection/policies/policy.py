"""What every key-frame policy is: it watches a stream and says on which frames the oracle should be asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.detection.metrics.matching import expected_disagreement
from vidkd.runtime.detections import Detections

if TYPE_CHECKING:
    from vidkd.detection.online.student import StudentOutput
    from vidkd.detection.policies.budget import CallBudget


GREY_WIDTH = 96


@dataclass(frozen=True, eq=False, kw_only=True)
class Observation:
    """What is known of a frame before the oracle may be asked about it; nothing of it comes from the oracle or from later frames.

    frame_index: place in the stream, from 0. grey: (h, w) uint8, the frame small, grey and blurred (`vidkd.detection.online.learner`).
    features: (D,) float32, the student's pooled deep features. detections: the student's own. doubt: the disagreement that the scores of
    its boxes promise, in [0, 1] (`expected_disagreement`); boxes: how many these are, weak ones too. key_grey, key_features: grey and
    features of the last key frame, None before the first. frames_since: frames since the last key frame, 1 on the frame after it; before
    the first, frames since the start. last_loss: the distillation loss at the last key frame that was answered, before it was learned
    from; 0 before the first.
    """

    frame_index: int
    grey: NDArray[np.uint8]
    features: NDArray[np.float32]
    detections: Detections
    frames_since: int
    last_loss: float = 0.0
    doubt: float = 0.0
    boxes: int = 0
    key_grey: NDArray[np.uint8] | None = None
    key_features: NDArray[np.float32] | None = None

    @property
    def motion(self) -> float:
        """Mean absolute difference of the grey picture from that of the last key frame, in [0, 1]; 0 before the first."""
        if self.key_grey is None:
            return 0.0
        return cv2.norm(self.grey, self.key_grey, cv2.NORM_L1) / self.grey.size / 255


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What the oracle's answer on a key frame showed.

    disagreement: of the student before it learned from the frame, 1 - F1, in [0, 1]. loss: the distillation loss of the frame then, which
    is not finite where training went astray.
    """

    frame_index: int
    disagreement: float
    loss: float


def small_grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB (H, W, 3) uint8 -> (h, 96) uint8, aspect kept, four pixels averaged for each and blurred: noise and coding leave little in it."""
    height = max(1, round(frame.shape[0] * GREY_WIDTH / frame.shape[1]))
    # picking pixels first takes a fifth of the time of averaging all of a large frame
    picked = cv2.resize(frame, (2 * GREY_WIDTH, 2 * height), interpolation=cv2.INTER_NEAREST)
    grey = cv2.resize(cv2.cvtColor(picked, cv2.COLOR_RGB2GRAY), (GREY_WIDTH, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(grey, (5, 5), 0), np.uint8)


class ObservationBuilder:
    """Makes the observations of a stream: remembers the last key frame, and the loss of the last one that was answered."""

    def __init__(self) -> None:
        self._key_index: int | None = None
        self._key_grey: NDArray[np.uint8] | None = None
        self._key_features: NDArray[np.float32] | None = None
        self._last_loss = 0.0

    def observe(self, frame: NDArray[np.uint8], output: "StudentOutput") -> Observation:
        """The frame (H, W, 3) as a policy sees it."""
        index = output.detections.frame_index
        grey = small_grey(frame)
        known = self._key_grey is not None and self._key_grey.shape == grey.shape
        return Observation(
            frame_index=index,
            grey=grey,
            features=output.features,
            detections=output.detections,
            doubt=expected_disagreement(output.scores),
            boxes=len(output.scores),
            frames_since=index if self._key_index is None else index - self._key_index,
            last_loss=self._last_loss,
            key_grey=self._key_grey if known else None,
            key_features=self._key_features,
        )

    def called(self, observation: Observation) -> None:
        """The frame has become the last key frame."""
        self._key_index, self._key_grey, self._key_features = observation.frame_index, observation.grey, observation.features

    def answered(self, loss: float) -> None:
        """An answer has come, and this was the student's loss on it; a loss that is not finite is ignored."""
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
        """Continue from what `state` gave."""
        grey, features = state["key_grey"], state["key_features"]
        self._key_index, self._last_loss = state["key_index"], state["last_loss"]
        self._key_grey = None if grey is None else grey.numpy()
        self._key_features = None if features is None else features.numpy()


class Policy:
    """Base of the policies. The order of calls: `start` once, then `wants` on every frame; `update` some time after each call.

    plans: the policy spends its budget by a plan of its own, in yes and no: no call is forced on it, none put off for being too early.
    """

    plans: ClassVar[bool] = False

    def start(self, budget: "CallBudget") -> None:
        """Begin a stream under this budget, which the policy may read and never changes."""

    def wants(self, observation: Observation) -> float | bool:
        """A call on this frame: yes or no, or a score of any unit, higher where a call is worth more."""
        raise NotImplementedError

    def update(self, feedback: Feedback) -> None:
        """The oracle has answered on a key frame: in parallel to the stream, answers arrive some frames after the call."""

    def state(self) -> dict[str, Any]:
        """What changes along a stream, as plain values and tensors."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave, after `start`."""
