"""What every key-frame policy is: it watches a stream and says on which frames the oracle should be asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.detection.policies.budget import CallBudget
from vidkd.runtime.detections import Detections


@dataclass(frozen=True, eq=False, kw_only=True)
class Observation:
    """What is known of a frame before the oracle may be asked about it; nothing of it comes from the oracle or from later frames.

    frame_index: place in the stream, from 0. grey: (h, w) uint8, the frame small, grey and blurred (`vidkd.detection.online.views`).
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


class Policy:
    """Base of the policies. The order of calls: `start` once, then `wants` on every frame; `told` some time after each call.

    plans: the policy spends its budget by a plan of its own, in yes and no: no call is forced on it, none put off for being too early.
    """

    plans: ClassVar[bool] = False

    def start(self, budget: CallBudget) -> None:
        """Begin a stream under this budget, which the policy may read and never changes."""

    def wants(self, observation: Observation) -> float | bool:
        """A call on this frame: yes or no, or a score of any unit, higher where a call is worth more."""
        raise NotImplementedError

    def told(self, feedback: Feedback) -> None:
        """The oracle has answered on a key frame; beside the stream, answers arrive some frames after the call."""

    def state(self) -> dict[str, Any]:
        """What changes along a stream, as plain values and tensors."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, after `start`."""
