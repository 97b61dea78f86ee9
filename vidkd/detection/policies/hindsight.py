"""Calls where the disagreement is known to be largest: what a selector that saw the future could do."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Observation, Policy


class Hindsight(Policy):
    """In each block of the budget's window the frames of the largest true disagreement; not causal.

    disagreement: one number for each frame of the stream, from a run in which the oracle saw every frame. Calls are at least half their
    even spacing apart, as those of scores are. Block after block the choice is the best that the calls of the block before leave room
    for, so it is the best of each block, not of the whole stream. Of equal choices the earlier. Frames beyond the list are not called.
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
            rest = max(0, budget.gap - (budget.window - before[-1])) if before else 0
            before = _best(self._disagreement[first : first + budget.window], before, budget.calls, budget.gap, rest)
            chosen += [first + place for place in before]
        self._chosen = frozenset(chosen)

    def wants(self, observation: Observation) -> bool:
        """As `Policy.wants`."""
        return observation.frame_index in self._chosen


def _best(block: NDArray[np.float64], before: Sequence[int], calls: int, gap: int, rest: int) -> list[int]:
    """The places of a block to call, rising, at least `gap` apart and none before `rest`, of the largest sum.

    The i-th call (from 0) may not come before the i-th of the block before, else a window across both would hold one too many: before each
    `before[i]` stand at most i calls. As many calls as fit are made, by dynamic programming over places and numbers of calls.
    """
    sums = np.full((calls + 1, len(block) + 1), -np.inf)  # [made, places looked at]
    sums[0] = 0.0
    taken = np.zeros(sums.shape, bool)
    for made in range(1, calls + 1):
        earliest = max(rest, before[made - 1] if made <= len(before) else 0)
        for place, worth in enumerate(block):
            with_it = sums[made - 1, max(0, place + 1 - gap)] + worth if place >= earliest else -np.inf
            taken[made, place + 1] = with_it > sums[made, place]
            sums[made, place + 1] = max(with_it, sums[made, place])
    made, seen = int(np.flatnonzero(np.isfinite(sums[:, -1]))[-1]), len(block)
    chosen: list[int] = []
    while made:
        if taken[made, seen]:
            chosen.insert(0, seen - 1)
            made, seen = made - 1, max(0, seen - gap)
        else:
            seen -= 1
    return chosen
