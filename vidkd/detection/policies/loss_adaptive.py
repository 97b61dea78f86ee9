"""The rule of the public TKD code: call more often while the distillation loss moves."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidkd.detection.policies.policy import Feedback, Observation, Policy

MOST, LEAST = 100.0, 10.0
MOVED_GREY = 30


class LossAdaptive(Policy):
    """Calls with a chance of theta percent, on frames that moved or while theta lies above 10.

    theta starts at 100. After an answered call it doubles, up to 100, if the loss rose by more than `rise` or fell by more than `fall`
    against the call before; else it falls by 1, down to 10. Moved: some pixel of the small blurred grey picture differs by more than 30
    of 255 from the last key frame.
    Source: the rule and its constants are read in the authors' public code of a later variant without the LSTM (arXiv 1903.01522), which
    has a form of the step up that adds 10 as well; its loss is a squared error of raw heads, so `rise` and `fall` want another scale with
    another loss. That theta changes at answered calls alone is a reconstruction.
    """

    def __init__(self, seed: int = 0, *, rise: float = 1.0, fall: float = 0.1) -> None:
        self._rng = np.random.default_rng(seed)
        self.rise, self.fall = rise, fall
        self.theta = MOST
        self._last: float | None = None

    def wants(self, observation: Observation) -> bool:
        """As `Policy.wants`."""
        drawn = bool(self._rng.uniform(0, MOST) < self.theta)
        return drawn and (self.theta > LEAST or _moved(observation))

    def told(self, feedback: Feedback) -> None:
        """As `Policy.told`. A loss that is not finite changes nothing."""
        if not np.isfinite(feedback.loss):
            return
        if self._last is not None:
            change = feedback.loss - self._last
            moved = change > self.rise or change < -self.fall
            self.theta = min(MOST, 2 * self.theta) if moved else max(LEAST, self.theta - 1)
        self._last = feedback.loss

    def state(self) -> dict[str, Any]:
        """As `Policy.state`."""
        return {"rng": self._rng.bit_generator.state, "theta": self.theta, "last": self._last}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `Policy.restore`."""
        self._rng.bit_generator.state = state["rng"]
        self.theta, self._last = state["theta"], state["last"]


def _moved(observation: Observation) -> bool:
    if observation.key_grey is None:
        return True
    return bool((np.abs(observation.grey.astype(np.int16) - observation.key_grey) > MOVED_GREY).any())
