"""ShadowTutor's rule: the better the student did, the longer the next stride."""

from collections.abc import Mapping
from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Feedback, Observation, Policy


class AdaptiveStride(Policy):
    """Calls `stride` frames after the last call, stride rounded to whole frames; the first frame is called.

    After each answer stride <- clip(r * stride, least, most), with a the student's F1 against the oracle before it learned from the frame,
    th the threshold, and r = (a + 1 - 2 th) / (1 - th) if a > th, else a / th: 2 for a perfect student, 1 at the threshold, 0 at the
    bottom. Starts at `least`. least, most: in even spacings of the budget's calls, but no less than a frame.
    Source: read in the public code of ShadowTutor, which segments and has a mean IoU for a. Kept: the rule and its threshold 0.8. Scaled to
    the budget: its bounds, there 8 and 64 frames, which are these of a budget of 5 %; with bounds in frames the budget alone would choose
    the calls at other shares. `KeyFrameChooser` clips the rule: no call comes within half an even spacing of the last, and one that is owed
    is made, so gaps reach neither of its bounds. F1 in place of IoU, and the state of the student in which it is measured, are
    reconstructions.
    Raises ConfigError unless 0 < least <= most and 0 < threshold < 1.
    """

    def __init__(self, *, least: float = 0.4, most: float = 3.2, threshold: float = 0.8) -> None:
        if not 0 < least <= most or not 0 < threshold < 1:
            raise ConfigError(f"a stride needs 0 < least <= most and a threshold in (0, 1): {least}, {most}, {threshold}")
        self.least, self.most, self.threshold = least, most, threshold

    def start(self, budget: CallBudget) -> None:
        """As `Policy.start`."""
        self._least, self._most = (max(1.0, spacings / budget.rate) for spacings in (self.least, self.most))
        self.stride = self._least

    def wants(self, observation: Observation) -> bool:
        """As `Policy.wants`."""
        return observation.key_features is None or observation.frames_since >= round(self.stride)

    def told(self, feedback: Feedback) -> None:
        """As `Policy.told`."""
        agreement, threshold = 1 - feedback.disagreement, self.threshold
        ratio = (agreement + 1 - 2 * threshold) / (1 - threshold) if agreement > threshold else agreement / threshold
        self.stride = min(self._most, max(self._least, ratio * self.stride))

    def state(self) -> dict[str, Any]:
        """As `Policy.state`."""
        return {"stride": self.stride}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `Policy.restore`."""
        self.stride = state["stride"]
