"""Train a network, or distil one into another, as a configuration says.

A run that was interrupted resumes when the same command is given again. Any setting of the configuration may follow as a flag:
--data.root DIR --train.epochs 40   (--settings lists them)

  vidkd train --config attention/folder --data.root clips
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vidkd.cli.verb_parser import list_settings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The verb's own.

    Args:
        config: the run's configuration (YAML), or the name of a shipped one (vidkd config ls).
        resume: from the last checkpoint (auto), the one before, or refuse.
        device: auto, cpu, cuda or mps; short for --train.device.
        list_settings: list every setting of the configuration, and stop.
    """

    config: str | None = None
    resume: Literal["auto", "previous", "never"] = "auto"
    device: str | None = None
    list_settings: bool = False
    settings: tuple[str, ...] = ()


def run(given: Settings) -> int:
    """Train, then write the run's report."""
    from vidkd.base.cores import check_threads
    from vidkd.base.settings import load_settings, place_of

    device = [] if given.device is None else [f"--train.device={given.device}"]
    kind, task = kind_of_run(given.config, given.settings)
    config = load_settings(kind.config, given.config, overrides=[*given.settings, *device])
    if given.list_settings:
        return list_settings(kind.config, task)
    check_threads(config.train.threads, where=place_of(config, "train.threads"))
    return _train(kind, config, given.resume)


def _train(kind: "RunKind", config: Any, resume: str) -> int:
    """What it takes to train is imported here, after the settings were found to be right: it is most of the time of a start."""
    from vidkd.engine.loop import InterruptedRunError
    from vidkd.report.page import render_report
    from vidkd.report.run import run_report

    try:
        result = kind.fit(config, resume=resume)
    except InterruptedRunError as stopped:
        sys.stderr.write(f"vidkd: {stopped}\n")
        return 130
    best = "" if result.best is None else f"  best {kind.best} on val {result.best:.3f}"
    done = "found finished" if result.found_finished else "trained"
    page = render_report(result.folder / "report.html", run_report(result.folder))
    sys.stdout.write(f"{done}: {result.folder}  {result.steps} steps in {result.seconds:.0f} s{best}\nwritten: {page}\n")
    sys.stdout.write(f"next: vidkd evaluate --model {result.folder} --subset test\n")
    return 0


class RunKind(NamedTuple):
    """What `vidkd train` trains: a kind of configuration, whose tasks name it, and the function that trains one.

    settings, fitted_by: MODULE:NAME, imported when they are asked for. best: what its best student is chosen by, in words.
    """

    settings: str
    fitted_by: str
    best: str

    @property
    def config(self) -> Any:
        """The dataclass of its settings."""
        return _named(self.settings)

    @property
    def fit(self) -> Callable[..., Any]:
        """Trains a configuration: `fit(config, resume=...) -> RunResult`."""
        fit: Callable[..., Any] = _named(self.fitted_by)
        return fit


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


KINDS = (
    RunKind(settings="vidkd.engine.config:RunConfig", fitted_by="vidkd.engine.fit:fit", best="top-1"),
    RunKind(settings="vidkd.detection.config:DetectorRunConfig", fitted_by="vidkd.detection.fit:fit_detector", best="AP50"),
)


def kind_of_run(path: Path | str | None, overrides: Sequence[str]) -> tuple[RunKind, str]:
    """The kind and the task of a configuration file with flags over it, before anything else of it is read.

    Raises ConfigError if the file cannot be read, or names a task of no kind.
    """
    from vidkd.base.settings import chosen_task, read_yaml, unknown_task
    from vidkd.base.yaml_files import Tree

    tree = Tree({}) if path is None else read_yaml(path, inherit=True)
    task = chosen_task(tree.content, overrides)
    for kind in KINDS:
        if task in kind.config.tasks():
            return kind, task
    known = [task for kind in KINDS for task in kind.config.tasks()]
    raise unknown_task(task, known, tree, str(path or "settings"), overrides)
