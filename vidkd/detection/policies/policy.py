"""What every key-frame policy is: it watches a stream and says on which frames the oracle should be asked."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.detection.metrics import expected_disagreement
from vidkd.runtime.detections import Detections

if TYPE_CHECKING:
    from vidkd.detection.online.student import StudentOutput
    from vidkd.detection.policies.budget import CallBudget


GREY_WIDTH = 96


class Stateful:
    """What changes along a stream is kept in the attributes named in `kept`."""

    kept: ClassVar[tuple[str, ...]] = ()

    def state(self) -> dict[str, Any]:
        """A copy of them, as plain values and tensors (which `torch.load` reads with weights_only)."""
        return {name: _plain(getattr(self, name)) for name in self.kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        for name in self.kept:
            if isinstance(now := getattr(self, name), np.random.Generator):
                now.bit_generator.state = state[name]
            else:
                setattr(self, name, _numpy(state[name]))


def _plain(value: Any) -> Any:
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return torch.tensor(value) if isinstance(value, np.ndarray) else copy.copy(value)


def _numpy(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_numpy, value))
    return value.numpy().copy() if isinstance(value, torch.Tensor) else copy.copy(value)


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


class ObservationBuilder(Stateful):
    """Makes the observations of a stream: remembers the last key frame, and the loss of the last one that was answered."""

    kept = ("_key_index", "_key_grey", "_key_features", "_last_loss")

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


class Policy(Stateful):
    """Base of the policies. The order of calls: `start` once, then `wants` on every frame; `update` some time after each call.

    plans: the policy spends its budget by a plan of its own, in yes and no: no call is forced on it, none put off for being too early.
    """

    plans: ClassVar[bool] = False
    budget: "CallBudget"

    def start(self, budget: "CallBudget") -> None:
        """Begin a stream under this budget, which the policy may read and never changes."""
        self.budget = budget

    def wants(self, observation: Observation) -> float | bool:
        """A call on this frame: yes or no, or a score of any unit, higher where a call is worth more."""
        raise NotImplementedError

    def update(self, feedback: Feedback) -> None:
        """The oracle has answered on a key frame: in parallel to the stream, answers arrive some frames after the call."""
