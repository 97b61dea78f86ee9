"""Calls at even distances, the plainest policy."""

from typing import ClassVar

from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Observation, Policy


class FixedInterval(Policy):
    """The first frame of each of `calls` equal parts of a block: frames 0, W/C, 2W/C, ..., rounded up where W/C is no whole number.

    A call that could not be made, since the oracle was busy, is made as soon as it can be, if that is within the block.
    """

    plans: ClassVar[bool] = True

    def start(self, budget: CallBudget) -> None:
        """As `Policy.start`."""
        self._budget = budget

    def wants(self, observation: Observation) -> bool:  # noqa: ARG002 - it looks at nothing
        """As `Policy.wants`."""
        budget = self._budget
        begun = (budget.window - budget.frames_left) * budget.calls // budget.window + 1
        return budget.calls - budget.calls_left < begun
