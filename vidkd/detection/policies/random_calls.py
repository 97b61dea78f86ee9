"""Calls at random places, the policy that knows nothing."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Observation, Policy


class RandomCalls(Policy):
    """Draws its calls of each block without replacement, frame by frame, with the chance calls left / frames left.

    Where the budget denies a frame, because the block before called late, the call is drawn again among the frames after it. All
    calls are spent: the chance reaches 1.
    """

    plans: ClassVar[bool] = True

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def start(self, budget: CallBudget) -> None:
        """As `Policy.start`."""
        self._budget = budget

    def wants(self, observation: Observation) -> bool:  # noqa: ARG002 - it looks at nothing
        """As `Policy.wants`."""
        return bool(self._rng.random() * self._budget.frames_left < self._budget.calls_left)

    def state(self) -> dict[str, Any]:
        """As `Policy.state`."""
        return {"rng": self._rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `Policy.restore`."""
        self._rng.bit_generator.state = state["rng"]
