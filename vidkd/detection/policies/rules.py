"""The key-frame policies without a trained network."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Feedback, Observation, Policy


class FixedInterval(Policy):
    """The first frame of each of `calls` equal parts of a block: frames 0, W/C, 2W/C, ..., rounded up where W/C is no whole number.

    A call that could not be made, since the oracle was busy, is made as soon as it can be, if that is within the block.
    """

    plans: ClassVar[bool] = True

    def wants(self, observation: Observation) -> bool:  # noqa: ARG002 - it looks at nothing
        """As `Policy.wants`."""
        budget = self.budget
        begun = (budget.window - budget.frames_left) * budget.calls // budget.window + 1
        return budget.calls - budget.calls_left < begun


class _Drawing(Policy):
    """A policy that draws from a generator of its own."""

    kept: ClassVar[tuple[str, ...]] = ("_rng",)

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)


class RandomCalls(_Drawing):
    """Draws its calls of each block without replacement, frame by frame, with the chance calls left / frames left.

    Where the budget denies a frame, because the block before called late, the call is drawn again among the frames after it. All
    calls are spent: the chance reaches 1.
    """

    plans: ClassVar[bool] = True

    def wants(self, observation: Observation) -> bool:  # noqa: ARG002 - it looks at nothing
        """As `Policy.wants`."""
        return bool(self._rng.random() * self.budget.frames_left < self.budget.calls_left)


class RandomScores(_Drawing):
    """Score: drawn from [0, 1), whatever the frame.

    The null of policies that score frames: threshold, spacing and pace are theirs, and it knows nothing. `RandomCalls` has neither, so a
    policy may be better than that by its spacing alone.
    """

    def wants(self, observation: Observation) -> float:  # noqa: ARG002 - it looks at nothing
        """As `Policy.wants`."""
        return float(self._rng.random())


class FrameDifference(Policy):
    """Score: mean absolute difference of the small grey picture from that of the last key frame, in [0, 1]."""

    def wants(self, observation: Observation) -> float:
        """As `Policy.wants`."""
        return observation.motion


class FeatureDifference(Policy):
    """Score: 1 - cosine of the pooled features and those of the last key frame, in [0, 2]; 0 before the first and for features of zeros."""

    def wants(self, observation: Observation) -> float:
        """As `Policy.wants`."""
        if observation.key_features is None:
            return 0.0
        now, then = observation.features.astype(np.float64), observation.key_features.astype(np.float64)
        lengths = float(np.linalg.norm(now) * np.linalg.norm(then))
        return 1.0 - float(now @ then) / lengths if lengths > 0 else 0.0


class Uncertainty(Policy):
    """Score: the disagreement that the student's own scores promise, in [0, 1] (`expected_disagreement`). Source: ours."""

    def wants(self, observation: Observation) -> float:
        """As `Policy.wants`."""
        return observation.doubt


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
    """

    kept = ("stride",)
    least, most, threshold = 0.4, 3.2, 0.8

    def start(self, budget: CallBudget) -> None:
        """As `Policy.start`."""
        self._least, self._most = (max(1.0, spacings / budget.rate) for spacings in (self.least, self.most))
        self.stride = self._least

    def wants(self, observation: Observation) -> bool:
        """As `Policy.wants`."""
        return observation.key_features is None or observation.frames_since >= round(self.stride)

    def update(self, feedback: Feedback) -> None:
        """As `Policy.update`."""
        agreement, threshold = 1 - feedback.disagreement, self.threshold
        ratio = (agreement + 1 - 2 * threshold) / (1 - threshold) if agreement > threshold else agreement / threshold
        self.stride = min(self._most, max(self._least, ratio * self.stride))


# Chances of a frame, in rates of the budget. A chance of twice the rate keeps an even pace, since none is called within half the even
# spacing; from the most it is reached in four quiet answers.
MOST, LEAST, STEP = 6.0, 0.6, 1.0
MOVED_GREY = 30


class LossAdaptive(_Drawing):
    """Calls the first frame, then with a chance of theta, on frames that moved or while theta lies above its least.

    theta starts at its most. After an answered call it doubles, up to that, if the loss rose by more than `rise` or fell by more than
    `fall` against the call before; else it falls by a step, down to its least. Moved: some pixel of the small blurred grey picture differs
    by more than 30 of 255 from the last key frame.
    Source: read in the authors' public code of a later variant without the LSTM (arXiv 1903.01522), which has a form of the step up that
    adds 10 as well. Kept: the rule, `rise` and `fall`, the start at the most, and that it is ten times the least. Scaled to the budget:
    most, least and step, there chances of 100, 10 and 1 percent, here 6, 0.6 and 1 times the rate of calls (the most is 1 where that is
    less): falling from 100 percent by 1 a call, theta would say nothing within most budgets. Its loss is a squared error of raw heads, so
    `rise` and `fall` want another scale with another loss. That theta changes at answered calls alone is a reconstruction.
    """

    kept = ("_rng", "theta", "_last")
    rise, fall = 1.0, 0.1

    def start(self, budget: CallBudget) -> None:
        """As `Policy.start`."""
        self._most, self._least, self._step = (min(1.0, rates * budget.rate) for rates in (MOST, LEAST, STEP))
        self.theta = self._most
        self._last: float | None = None

    def wants(self, observation: Observation) -> bool:
        """As `Policy.wants`."""
        if observation.key_grey is None:
            return True
        change = np.abs(observation.grey.astype(np.int16) - observation.key_grey)
        return bool(self._rng.random() < self.theta and (self.theta > self._least or change.max() > MOVED_GREY))

    def update(self, feedback: Feedback) -> None:
        """As `Policy.update`. A loss that is not finite changes nothing."""
        if not np.isfinite(feedback.loss):
            return
        if self._last is not None:
            change = feedback.loss - self._last
            moved = change > self.rise or change < -self.fall
            self.theta = min(self._most, 2 * self.theta) if moved else max(self._least, self.theta - self._step)
        self._last = feedback.loss


class Hindsight(Policy):
    """In each block of the budget's window the frames of the largest true disagreement; not causal.

    disagreement: one number for each frame of the stream, from a run in which the oracle saw every frame. Calls are at least half their
    even spacing apart, as those of scores are. Block after block the choice is the best that the calls of the block before leave room
    for, so it is the best of each block, not of the whole stream. Of equal choices the earlier. Frames beyond the list are not called.
    """

    plans: ClassVar[bool] = True

    def __init__(self, disagreement: Sequence[float] | NDArray[np.floating]) -> None:
        self._disagreement = np.asarray(disagreement, np.float64)

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
