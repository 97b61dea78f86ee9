"""Scores at random, what a policy that scores frames is to be measured against."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidkd.detection.policies.policy import Observation, Policy


class RandomScores(Policy):
    """Score: drawn from [0, 1), whatever the frame.

    The null of policies that score frames: threshold, spacing and pace are theirs, and it knows nothing. `RandomCalls` has neither, so a
    policy may be better than that by its spacing alone.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def wants(self, observation: Observation) -> float:  # noqa: ARG002 - it looks at nothing
        """As `Policy.wants`."""
        return float(self._rng.random())

    def state(self) -> dict[str, Any]:
        """As `Policy.state`."""
        return {"rng": self._rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `Policy.restore`."""
        self._rng.bit_generator.state = state["rng"]
