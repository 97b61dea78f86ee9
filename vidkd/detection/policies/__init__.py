"""Key-frame policies: which frames of a stream are worth a call of the oracle, and the budget that holds them.

A policy is made by its name in POLICIES, or by `open_policy`. "hindsight" wants the true disagreement of the stream, "lstm" a selector.
"""

from collections.abc import Callable
from pathlib import Path

from vidkd.base.errors import CheckpointError, unknown_name
from vidkd.base.files import near_files
from vidkd.detection.policies.budget import CallBudget, KeyFrameChooser
from vidkd.detection.policies.lstm import LstmSelector, load_selector, save_selector
from vidkd.detection.policies.policy import Feedback, Observation, Policy
from vidkd.detection.policies.rules import (
    AdaptiveStride,
    FeatureDifference,
    FixedInterval,
    FrameDifference,
    Hindsight,
    LossAdaptive,
    RandomCalls,
    RandomScores,
    Uncertainty,
)

POLICIES: dict[str, Callable[..., Policy]] = {
    "fixed": FixedInterval,
    "random": RandomCalls,
    "random_scores": RandomScores,
    "frame_difference": FrameDifference,
    "feature_difference": FeatureDifference,
    "uncertainty": Uncertainty,
    "loss_adaptive": LossAdaptive,
    "stride": AdaptiveStride,
    "hindsight": Hindsight,
    "lstm": LstmSelector,
}

SEEDED = ("random", "random_scores", "loss_adaptive")
BLIND = ("fixed", "random", "random_scores", "frame_difference")
"""Those that choose without a look at the student: on their key frames it errs as often as on others like them."""
BARE = tuple(name for name in POLICIES if name not in ("hindsight", "lstm"))


def open_policy(name: str, *, seed: int = 0) -> Policy:
    """The policy of a name, with its default settings, or the LSTM of a selector's file.

    seed: for those that draw. Raises ConfigError for a name that is neither, CheckpointError for a file that holds no selector.
    """
    if name in BARE:
        return POLICIES[name](seed=seed) if name in SEEDED else POLICIES[name]()
    if names_selector(name):
        return LstmSelector(load_selector(name))
    if Path(name).suffix:
        path = Path(name)
        raise CheckpointError(f"selector not found: {path}", **near_files(path, (path.suffix,)), or_else=f"a policy: {', '.join(BARE)}")
    raise unknown_name("key-frame policy", name, BARE, or_else="the file of a trained selector (vidkd train_selector)")


def names_selector(name: str) -> bool:
    """Whether this is the file of a selector; never the name of a policy, whatever files are in the working folder."""
    return name not in BARE and Path(name).is_file()


__all__ = [
    "POLICIES",
    "AdaptiveStride",
    "CallBudget",
    "FeatureDifference",
    "Feedback",
    "FixedInterval",
    "FrameDifference",
    "Hindsight",
    "KeyFrameChooser",
    "LossAdaptive",
    "LstmSelector",
    "Observation",
    "Policy",
    "RandomCalls",
    "RandomScores",
    "Uncertainty",
    "load_selector",
    "names_selector",
    "open_policy",
    "save_selector",
]
