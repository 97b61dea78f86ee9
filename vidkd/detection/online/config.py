"""The settings of learning along a stream as one configuration, strict about its keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vidkd.detection.online.replay import Replay
from vidkd.detection.online.update import Update
from vidkd.detection.policies.train import SelectorTraining
from vidkd.engine.settings import load_settings

TASK = "tkd"


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """Of a task that has none of its own."""


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """How a student learns along a stream.

    Args:
        task: tkd.
        update: how it learns from one key frame.
        replay: bounds of the buffer of past key frames.
        method: empty.
    """

    task: str = TASK
    update: Update = field(default_factory=Update)
    replay: Replay = field(default_factory=Replay)
    method: Any = None

    @classmethod
    def tasks(cls) -> Mapping[str, type]:
        """The one task."""
        return {TASK: NoSettings}

    @classmethod
    def unused(cls, _task: str, /) -> tuple[str, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True, kw_only=True)
class SelectorRunConfig(LearningConfig):
    """How a selector is trained, on students that learn meanwhile.

    Args:
        task: tkd.
        update: how the students learn from one key frame.
        replay: bounds of their buffer of past key frames.
        method: empty.
        selector: how the selector is trained.
    """

    selector: SelectorTraining = field(default_factory=SelectorTraining)


Kind = TypeVar("Kind", bound=LearningConfig)


def load_learning_config(kind: type[Kind], overrides: Sequence[str] = (), *, seed: int = 0) -> Kind:
    """The configuration that flags (`--update.lr 1e-4`) make of the defaults. Raises ConfigError as `load_settings` does.

    seed: every seed in it that no flag sets.
    """
    seeds: dict[str, Any] = {name: {"seed": seed} for name in ("replay", "selector") if name in kind.__dataclass_fields__}
    return load_settings(kind, settings={"task": TASK, **seeds}, overrides=overrides)
