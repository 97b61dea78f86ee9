"""A policy under a budget: the one place where a wish becomes a call."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Feedback, Observation, Policy
from vidkd.detection.policies.threshold import ScoreThreshold

MOST_OWED = 1.0
"""Calls by which a policy that scores frames may lag behind an even pace."""


class KeyFrameChooser:
    """Asks the policy on every frame and keeps its calls within the budget.

    A policy's yes is a call where the budget allows one; a score, where it also passes a threshold that learns the quantile of the
    scores seen, and half the even spacing of calls has gone by since the last one: frames that follow each other teach the same.
    exhaust: calls that fall due are made whether or not the policy wants them, so that policies can be compared at an equal number of
    calls; not forced on a policy that plans its own. By scores they fall due as soon as MOST_OWED calls are owed: saved up to the end of a
    block, they would come close upon another there, and leave none to be made in the next one. A score that is not finite counts as 0 and
    calls for nothing.
    """

    def __init__(self, policy: Policy, budget: CallBudget, *, exhaust: bool = True) -> None:
        self.policy, self.budget, self.exhaust = policy, budget, exhaust
        self._threshold = ScoreThreshold(budget.rate, budget.window)
        policy.start(budget)

    def choose(self, observation: Observation, *, able: bool = True) -> bool:
        """Whether the oracle is called on this frame, once for every frame in order. able: whether it could be asked now at all."""
        wanted = self.policy.wants(observation)
        forced = self.exhaust and not self.policy.plans and self.budget.due
        scored = not isinstance(wanted, bool | np.bool_)
        forced |= self.exhaust and scored and self.budget.rested and self._threshold.owed >= MOST_OWED
        score = float(wanted) if math.isfinite(wanted) else 0.0
        wish = self.budget.rested and self._threshold.passes(score) and math.isfinite(wanted) if scored else bool(wanted)
        called = able and self.budget.may_call and (wish or forced)
        if scored:
            self._threshold.seen(score, called)
        self.budget.advance(called)
        return called

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
