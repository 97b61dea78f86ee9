"""Scores to calls: a threshold that follows the scores seen so far."""

import bisect
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

# Scores of the last so many calls' worth of frames: enough for a quantile, few enough to follow a student that learns, whose scores fall.
MEMORY_CALLS = 4
LEAST_MEMORY = 20


class ScoreThreshold:
    """Passes the share `rate` of the frames with the highest scores, knowing only the scores before each.

    A score passes if less than the wanted share of those remembered are as high. That share is `rate` where the calls so far are on pace.
    Where part of a call is owed, it is one among the frames that are left until the whole of it is; where calls were made in advance
    (those of one `horizon` at most), it is less, so that they are levelled over the next `horizon` frames. The first frame passes; then
    none until 1 / rate scores have been seen, which is when a second call can be owed. Equal scores alone call for nothing.
    """

    def __init__(self, rate: float, horizon: int) -> None:
        self.rate, self.horizon = rate, horizon
        self._most = max(LEAST_MEMORY, math.ceil(MEMORY_CALLS / rate))
        self._scores: deque[float] = deque()
        self._sorted: list[float] = []
        self.owed = 0.0

    def passes(self, score: float) -> bool:
        """Whether the frame with this score is among the highest."""
        known = len(self._sorted)
        if known < 1 / self.rate:
            return known == 0
        as_high = known - bisect.bisect_left(self._sorted, score)
        share = self.rate / max(self.rate, 1 - self.owed) if self.owed > 0 else self.rate + self.owed / self.horizon
        return as_high < known * share

    def seen(self, score: float | None, called: bool) -> None:
        """Take in the score of a frame, None where it has none, and whether the oracle was called on it."""
        if score is not None:
            self._remember(score)
        most_owed = self.rate * self.horizon
        self.owed = min(most_owed, max(-most_owed, self.owed + self.rate - called))

    def _remember(self, score: float) -> None:
        if len(self._scores) == self._most:
            del self._sorted[bisect.bisect_left(self._sorted, self._scores.popleft())]
        self._scores.append(score)
        bisect.insort(self._sorted, score)

    def state(self) -> dict[str, Any]:
        """The scores remembered and the calls owed, as plain values."""
        return {"scores": list(self._scores), "owed": self.owed}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._scores = deque(state["scores"])
        self._sorted = sorted(self._scores)
        self.owed = state["owed"]
