"""Calls where the student's features have moved most since the last key frame."""

import numpy as np

from vidkd.detection.policies.policy import Observation, Policy


class FeatureDifference(Policy):
    """Score: 1 - cosine of the pooled features and those of the last key frame, in [0, 2]; 0 before the first and for features of zeros."""

    def wants(self, observation: Observation) -> float:
        """As `Policy.wants`."""
        if observation.key_features is None:
            return 0.0
        now, then = observation.features.astype(np.float64), observation.key_features.astype(np.float64)
        lengths = float(np.linalg.norm(now) * np.linalg.norm(then))
        return 1.0 - float(now @ then) / lengths if lengths > 0 else 0.0
