"""The rule of the public TKD code: call more often while the distillation loss moves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Feedback, Observation, Policy

# Chances of a frame, in rates of the budget. A chance of twice the rate keeps an even pace, since none is called within half the even
# spacing; from the most it is reached in four quiet answers.
MOST, LEAST, STEP = 6.0, 0.6, 1.0
MOVED_GREY = 30


class LossAdaptive(Policy):
    """Calls the first frame, then with a chance of theta, on frames that moved or while theta lies above its least.

    theta starts at its most. After an answered call it doubles, up to that, if the loss rose by more than `rise` or fell by more than
    `fall` against the call before; else it falls by a step, down to its least. Moved: some pixel of the small blurred grey picture differs
    by more than 30 of 255 from the last key frame.
    Source: read in the authors' public code of a later variant without the LSTM (arXiv 1903.01522), which has a form of the step up that
    adds 10 as well. Kept: the rule, `rise` and `fall`, the start at the most, and that it is ten times the least. Scaled to the budget:
    most, least and step, there chances of 100, 10 and 1 percent, here 6, 0.6 and 1 times the rate of calls (the most is 1 where that is
    less): falling from 100 percent by 1 a call, theta would say nothing within most budgets. Its loss is a squared error of raw heads, so
    `rise` and `fall` want another scale with another loss. That theta changes at answered calls alone is a reconstruction.
    """

    def __init__(self, seed: int = 0, *, rise: float = 1.0, fall: float = 0.1) -> None:
        self._rng = np.random.default_rng(seed)
        self.rise, self.fall = rise, fall
        self._last: float | None = None

    def start(self, budget: CallBudget) -> None:
        """As `Policy.start`."""
        self._most, self._least, self._step = (min(1.0, rates * budget.rate) for rates in (MOST, LEAST, STEP))
        self.theta, self._last = self._most, None

    def wants(self, observation: Observation) -> bool:
        """As `Policy.wants`."""
        if observation.key_grey is None:
            return True
        drawn = bool(self._rng.random() < self.theta)
        return drawn and (self.theta > self._least or _moved(observation.grey, observation.key_grey))

    def told(self, feedback: Feedback) -> None:
        """As `Policy.told`. A loss that is not finite changes nothing."""
        if not np.isfinite(feedback.loss):
            return
        if self._last is not None:
            change = feedback.loss - self._last
            moved = change > self.rise or change < -self.fall
            self.theta = min(self._most, 2 * self.theta) if moved else max(self._least, self.theta - self._step)
        self._last = feedback.loss

    def state(self) -> dict[str, Any]:
        """As `Policy.state`."""
        return {"rng": self._rng.bit_generator.state, "theta": self.theta, "last": self._last}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `Policy.restore`."""
        self._rng.bit_generator.state = state["rng"]
        self.theta, self._last = state["theta"], state["last"]


def _moved(grey: NDArray[np.uint8], key_grey: NDArray[np.uint8]) -> bool:
    return bool((np.abs(grey.astype(np.int16) - key_grey) > MOVED_GREY).any())
