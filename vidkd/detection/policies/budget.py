"""A budget of oracle calls, the score threshold that follows it, and the chooser that turns a policy's wishes into calls."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidkd.base.errors import ConfigError
from vidkd.detection.policies.policy import Feedback, Observation, Policy, Stateful


class CallBudget(Stateful):
    """At most `calls` calls in any `window` frames that follow each other; `calls` in each whole block of `window` frames can be spent.

    Blocks are counted from the start of the stream. Calls that are saved up fall due: the last of a block at the latest on its last frame,
    each before it `gap` frames earlier, gap being half the even spacing of calls, rounded down. Whoever calls whenever `due` says so (and
    else as he likes, where `may_call` allows) has spent exactly `calls` at the end of every block: a due call is always allowed, since the
    block before kept the same dates.
    Raises ConfigError unless 1 <= calls <= window.
    """

    kept = ("position", "_recent", "_in_block")

    def __init__(self, calls: int, window: int) -> None:
        if not 1 <= calls <= window:
            raise ConfigError(f"a budget of {calls} calls in {window} frames is impossible", hint="at least 1 call, at most one a frame")
        self.calls, self.window = calls, window
        self.gap = max(1, window // (2 * calls))
        self.position = 0
        self._recent: list[int] = []
        self._in_block = 0

    @classmethod
    def of_share(cls, share: float, *, window: int = 200) -> "CallBudget":
        """The budget of a share of the frames, in (0, 1], rounded down to whole calls a window, but at least one.

        A share that is less than one call a window makes the window longer. Raises ConfigError for a share outside (0, 1].
        """
        if not 0 < share <= 1:
            raise ConfigError(f"the share of frames sent to the oracle must lie in (0, 1], not {share}")
        calls = int(share * window + 1e-9)
        return cls(calls, window) if calls else cls(1, math.ceil(1 / share - 1e-9))

    @property
    def rate(self) -> float:
        """Calls a frame, in (0, 1]."""
        return self.calls / self.window

    @property
    def calls_left(self) -> int:
        """Calls that this block has not spent."""
        return self.calls - self._in_block

    @property
    def frames_left(self) -> int:
        """Frames of this block from the present one on."""
        return self.window - self.position % self.window

    @property
    def may_call(self) -> bool:
        """Whether a call on the present frame keeps every window within the budget."""
        return sum(index > self.position - self.window for index in self._recent) < self.calls

    @property
    def due(self) -> bool:
        """Whether a call must be made now for the block to be spent in full, with `gap` frames between the calls that are left."""
        return self.calls_left > 0 and self.frames_left <= 1 + (self.calls_left - 1) * self.gap

    @property
    def rested(self) -> bool:
        """Whether `gap` frames have gone by since the last call, if there was one."""
        return not self._recent or self.position - self._recent[-1] >= self.gap

    def advance(self, called: bool) -> None:
        """Move to the next frame, after a call on the present one or none."""
        if called:
            self._recent = [index for index in self._recent if index > self.position - self.window] + [self.position]
            self._in_block += 1
        self.position += 1
        if self.position % self.window == 0:
            self._in_block = 0


# Scores of the last so many calls' worth of frames: enough for a quantile, few enough to follow a student that learns, whose scores fall.
MEMORY_CALLS = 4
LEAST_MEMORY = 20


class ScoreThreshold(Stateful):
    """Passes the share `rate` of the frames with the highest scores, knowing only the scores before each.

    A score passes if less than the wanted share of those remembered are as high. That share is `rate` where the calls so far are on pace.
    Where part of a call is owed, it is one among the frames that are left until the whole of it is; where calls were made in advance
    (those of one `horizon` at most), it is less, so that they are levelled over the next `horizon` frames. The first frame passes; then
    none until 1 / rate scores have been seen, which is when a second call can be owed. Equal scores alone call for nothing.
    """

    kept = ("_scores", "owed")

    def __init__(self, rate: float, horizon: int) -> None:
        self.rate, self.horizon = rate, horizon
        self._most = max(LEAST_MEMORY, math.ceil(MEMORY_CALLS / rate))
        self._scores: list[float] = []
        self.owed = 0.0

    def passes(self, score: float) -> bool:
        """Whether the frame with this score is among the highest."""
        known = len(self._scores)
        if known < 1 / self.rate:
            return known == 0
        as_high = sum(other >= score for other in self._scores)
        share = self.rate / max(self.rate, 1 - self.owed) if self.owed > 0 else self.rate + self.owed / self.horizon
        return as_high < known * share

    def seen(self, score: float | None, called: bool) -> None:
        """Take in the score of a frame, None where it has none, and whether the oracle was called on it."""
        if score is not None:
            self._scores = [*self._scores, score][-self._most :]
        most_owed = self.rate * self.horizon
        self.owed = min(most_owed, max(-most_owed, self.owed + self.rate - called))


MOST_OWED = 1.0
"""Calls by which a policy that does not plan its own may lag behind an even pace."""
LEVELLED_FRAMES = 200
"""Calls made ahead of an even pace are levelled over so many frames: a longer window must not let them all be made at its start."""
AHEAD_SHARE = 0.25
"""Share of the calls of those frames by which yes and no may run ahead: they know no threshold that rises as calls are made in advance."""


class KeyFrameChooser:
    """Asks the policy on every frame and keeps its calls within the budget.

    The yes of a policy that plans its calls is a call where the budget allows one. Any other policy calls no sooner than half the even
    spacing after the last call: frames that follow each other teach the same. Its score calls if it passes a threshold that learns the
    quantile of the scores seen; its yes, if calls are not too far ahead of an even pace (AHEAD_SHARE, at least one call).
    Calls that fall due are made whether or not the policy wants them, so that policies can be compared at an equal number of calls; not
    forced on a policy that plans its own. They fall due as soon as MOST_OWED calls are owed: saved up to the end of a block, they would
    come close upon another there, and leave none to be made in the next one. A score that is not finite counts as 0 and calls for nothing.
    """

    def __init__(self, policy: Policy, budget: CallBudget) -> None:
        self.policy, self.budget = policy, budget
        horizon = min(budget.window, max(LEVELLED_FRAMES, math.ceil(1 / budget.rate)))
        self._threshold = ScoreThreshold(budget.rate, horizon)
        self._most_ahead = max(1.0, AHEAD_SHARE * budget.rate * horizon)
        policy.start(budget)

    def choose(self, observation: Observation, *, able: bool = True) -> bool:
        """Whether the oracle is called on this frame, once for every frame in order. able: whether it could be asked now at all."""
        wanted = self.policy.wants(observation)
        if self.policy.plans:
            called = able and self.budget.may_call and bool(wanted)
        else:
            called = able and self.budget.may_call and (self._wished(wanted) or self._is_due)
            self._threshold.seen(_score(wanted), called)
        self.budget.advance(called)
        return called

    def _wished(self, wanted: float | bool) -> bool:
        if not self.budget.rested or not math.isfinite(wanted):
            return False
        score = _score(wanted)
        if score is None:
            return bool(wanted) and self._threshold.owed >= -self._most_ahead
        return self._threshold.passes(score)

    @property
    def _is_due(self) -> bool:
        return self.budget.due or (self.budget.rested and self._threshold.owed >= MOST_OWED)

    def update(self, feedback: Feedback) -> None:
        """Hand on what an answered call showed."""
        self.policy.update(feedback)

    def state(self) -> dict[str, Any]:
        """Budget, threshold and policy, as plain values and tensors."""
        return {"budget": self.budget.state(), "threshold": self._threshold.state(), "policy": self.policy.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.budget.restore(state["budget"])
        self._threshold.restore(state["threshold"])
        self.policy.restore(state["policy"])


def _score(wanted: float | bool) -> float | None:
    """None for a yes or a no."""
    if isinstance(wanted, bool | np.bool_):
        return None
    return float(wanted) if math.isfinite(wanted) else 0.0
