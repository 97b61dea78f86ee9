"""Calls where the picture has changed most since the last key frame."""

from vidkd.detection.policies.policy import Observation, Policy


class FrameDifference(Policy):
    """Score: mean absolute difference of the small grey picture from that of the last key frame, in [0, 1]."""

    def wants(self, observation: Observation) -> float:
        """As `Policy.wants`."""
        return observation.motion
