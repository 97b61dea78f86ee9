"""The kinds of run that `vidkd train` knows: which tasks belong to each, and what trains them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidkd.detection.config import DetectorRunConfig
    from vidkd.engine.config import RunConfig
    from vidkd.engine.loop import RunResult


@dataclass(frozen=True, kw_only=True)
class RunKind:
    """config: the dataclass of its settings. fit: trains such a configuration. best: what its best student is chosen by, in words.

    What trains is imported when `fit` is called: settings are read, and mistakes in them found, without it.
    """

    config: type[Any]
    fit: "Callable[..., RunResult]"
    best: str


def _clips() -> RunKind:
    from vidkd.engine.config import RunConfig

    return RunKind(config=RunConfig, fit=_fit_clips, best="top-1")


def _fit_clips(config: "RunConfig", *, resume: str) -> "RunResult":
    from vidkd.engine.fit import fit

    return fit(config, resume=resume)


def _detectors() -> RunKind:
    from vidkd.detection.config import DetectorRunConfig

    return RunKind(config=DetectorRunConfig, fit=_fit_detector, best="AP50")


def _fit_detector(config: "DetectorRunConfig", *, resume: str) -> "RunResult":
    from vidkd.detection.fit import fit_detector

    return fit_detector(config, resume=resume)


KINDS: dict[str, Callable[[], RunKind]] = {"clips": _clips, "detectors": _detectors}


def kind_of_run(path: Path | str | None, overrides: Sequence[str]) -> tuple[RunKind, str]:
    """The kind and the task of a configuration file with flags over it, before anything else of it is read.

    Raises ConfigError if the file cannot be read, or names a task of no kind.
    """
    from vidkd.base.errors import unknown_name
    from vidkd.base.settings import chosen_task, read_yaml

    task = chosen_task(read_yaml(Path(path)).content if path is not None else {}, overrides)
    known: list[str] = []
    for make in KINDS.values():
        kind = make()
        if task in kind.config.tasks():
            return kind, task
        known += kind.config.tasks()
    raise unknown_name("task", task, known, where=f"task in {path or 'settings'}")
