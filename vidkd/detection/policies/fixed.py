"""Calls at even distances, the plainest policy."""

from typing import ClassVar

from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Observation, Policy


class FixedInterval(Policy):
    """The first frame of each of `calls` equal parts of a block: frames 0, W/C, 2W/C, ..., rounded up where W/C is no whole number."""

    plans: ClassVar[bool] = True

    def start(self, budget: CallBudget) -> None:
        """As `Policy.start`."""
        self._calls, self._window = budget.calls, budget.window

    def wants(self, observation: Observation) -> bool:
        """As `Policy.wants`."""
        return observation.frame_index * self._calls % self._window < self._calls
