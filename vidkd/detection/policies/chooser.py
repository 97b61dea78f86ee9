"""A policy under a budget: the one place where a wish becomes a call."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Feedback, Observation, Policy
from vidkd.detection.policies.threshold import ScoreThreshold

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
    exhaust: calls that fall due are made whether or not the policy wants them, so that policies can be compared at an equal number of
    calls; not forced on a policy that plans its own. They fall due as soon as MOST_OWED calls are owed: saved up to the end of a block,
    they would come close upon another there, and leave none to be made in the next one. A score that is not finite counts as 0 and calls
    for nothing.
    """

    def __init__(self, policy: Policy, budget: CallBudget, *, exhaust: bool = True) -> None:
        self.policy, self.budget, self.exhaust = policy, budget, exhaust
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
            called = able and self.budget.may_call and (self._wished(wanted) or self._forced())
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

    def _forced(self) -> bool:
        return self.exhaust and (self.budget.due or (self.budget.rested and self._threshold.owed >= MOST_OWED))

    def told(self, feedback: Feedback) -> None:
        """Hand on what an answered call showed."""
        self.policy.told(feedback)

    def state(self) -> dict[str, Any]:
        """Budget, threshold and policy, as plain values and tensors."""
        return {"budget": self.budget.state(), "threshold": self._threshold.state(), "policy": self.policy.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave. Raises ConfigError if that was of another budget."""
        self.budget.restore(state["budget"])
        self._threshold.restore(state["threshold"])
        self.policy.restore(state["policy"])


def _score(wanted: float | bool) -> float | None:
    """None for a yes or a no."""
    if isinstance(wanted, bool | np.bool_):
        return None
    return float(wanted) if math.isfinite(wanted) else 0.0
