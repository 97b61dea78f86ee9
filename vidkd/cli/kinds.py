"""The kinds of run that `vidkd train` knows: which tasks belong to each, and what trains them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RunKind:
    """module, kind: of the dataclass of its settings. fit_module, fit_name: of what trains such a configuration, imported when it does.

    best: what its best student is chosen by, in words.
    """

    module: str
    kind: str
    fit_module: str
    fit_name: str
    best: str

    @property
    def config(self) -> Any:
        """The dataclass of its settings."""
        return getattr(import_module(self.module), self.kind)

    @property
    def fit(self) -> Callable[..., Any]:
        """Trains a configuration: `fit(config, resume=...) -> RunResult`."""
        fit: Callable[..., Any] = getattr(import_module(self.fit_module), self.fit_name)
        return fit


KINDS = (
    RunKind(module="vidkd.engine.config", kind="RunConfig", fit_module="vidkd.engine.fit", fit_name="fit", best="top-1"),
    RunKind(
        module="vidkd.detection.config", kind="DetectorRunConfig", fit_module="vidkd.detection.fit", fit_name="fit_detector", best="AP50"
    ),
)


def kind_of_run(path: Path | str | None, overrides: Sequence[str]) -> tuple[RunKind, str]:
    """The kind and the task of a configuration file with flags over it, before anything else of it is read.

    Raises ConfigError if the file cannot be read, or names a task of no kind.
    """
    from vidkd.base.errors import unknown_name
    from vidkd.base.settings import chosen_task, read_yaml

    task = chosen_task(read_yaml(Path(path), inherit=True).content if path is not None else {}, overrides)
    for kind in KINDS:
        if task in kind.config.tasks():
            return kind, task
    known = [task for kind in KINDS for task in kind.config.tasks()]
    raise unknown_name("task", task, known, where=f"task in {path or 'settings'}")
