"""The settings of learning along a stream as one configuration, strict about its keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vidkd.base.settings import load_settings
from vidkd.detection.online.replay import Replay
from vidkd.detection.online.update import Update
from vidkd.detection.policies.train import SelectorTraining


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """How a student learns along a stream.

    Args:
        update: how it learns from one key frame.
        replay: bounds of the buffer of past key frames.
    """

    update: Update = field(default_factory=Update)
    replay: Replay = field(default_factory=Replay)


@dataclass(frozen=True, kw_only=True)
class SelectorRunConfig(LearningConfig):
    """How a selector is trained, on students that learn meanwhile.

    Args:
        update: how the students learn from one key frame.
        replay: bounds of their buffer of past key frames.
        selector: how the selector is trained.
    """

    selector: SelectorTraining = field(default_factory=SelectorTraining)


Kind = TypeVar("Kind", bound=LearningConfig)


def load_learning_config(kind: type[Kind], overrides: Sequence[str] = (), *, seed: int = 0) -> Kind:
    """The configuration that flags (`--update.lr 1e-4`) make of the defaults. Raises ConfigError as `load_settings` does.

    seed: every seed in it that no flag sets.
    """
    seeds: dict[str, Any] = {name: {"seed": seed} for name in ("replay", "selector") if name in kind.__dataclass_fields__}
    return load_settings(kind, settings=seeds, overrides=overrides)
