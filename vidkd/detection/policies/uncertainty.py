"""Calls where the student is least sure of its boxes."""

from vidkd.detection.policies.policy import Observation, Policy


class Uncertainty(Policy):
    """Score: the disagreement that the student's own scores promise, in [0, 1] (`expected_disagreement`). Source: ours."""

    def wants(self, observation: Observation) -> float:
        """As `Policy.wants`."""
        return observation.doubt
