"""Calls where the disagreement is known to be largest: what a selector that saw the future could do."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Observation, Policy


class Hindsight(Policy):
    """In each block of the budget's window the frames of the largest true disagreement; not causal, a bound to compare with.

    disagreement: one number for each frame of the stream, from a run in which the oracle saw every frame. Block after block the choice is
    the best that the calls of the block before leave room for, so it is the best of each block, not of the whole stream. Equal numbers go
    in the order of the stream. Frames beyond the list are not called.
    Raises ValueError for numbers that are not finite.
    """

    plans: ClassVar[bool] = True

    def __init__(self, disagreement: Sequence[float] | NDArray[np.floating]) -> None:
        self._disagreement = np.asarray(disagreement, np.float64).reshape(-1)
        if not np.isfinite(self._disagreement).all():
            raise ValueError("the disagreement of a frame is not finite")
        self._chosen: frozenset[int] = frozenset()

    def start(self, budget: CallBudget) -> None:
        """As `Policy.start`."""
        before: list[int] = []
        chosen: list[int] = []
        for first in range(0, len(self._disagreement), budget.window):
            before = _best(self._disagreement[first : first + budget.window], before, budget.calls)
            chosen += [first + place for place in before]
        self._chosen = frozenset(chosen)

    def wants(self, observation: Observation) -> bool:
        """As `Policy.wants`."""
        return observation.frame_index in self._chosen


def _best(block: NDArray[np.float64], before: Sequence[int], calls: int) -> list[int]:
    """The places of a block to call, rising.

    The i-th call (from 0) may not come before the i-th of the block before, else a window across both would hold one too many: before each
    `before[i]` stand at most i calls. These bounds are nested, so taking the largest first while they hold gives the best sum.
    """
    chosen: list[int] = []
    for place in np.argsort(-block, kind="stable"):
        trial = sorted([*chosen, int(place)])
        if len(trial) <= calls and all(mine >= theirs for mine, theirs in zip(trial, before, strict=False)):
            chosen = trial
    return chosen
