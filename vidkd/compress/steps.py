"""The steps of a recipe, one after another, each in a folder of its own: what is finished is kept, and a recipe goes on where it was."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.base.files import read_json, sha256, write_json
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.recipe import ExportConfig, Recipe, RepairConfig, Step
from vidkd.compress.subject import Made, Subject
from vidkd.engine.checkpoint import written_or_told
from vidkd.engine.environment import environment
from vidkd.engine.run_folder import RunFolder
from vidkd.models.saved import checkpoint_in

OUTCOME = "outcome.json"
ORIGINAL = "0_original"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step left: its name, the network that it made, and outcome.json. found_finished: it was finished before."""

    name: str
    made: Made
    content: Mapping[str, Any]
    found_finished: bool


def run_recipe(recipe: Recipe, subject: Subject) -> Iterator[Outcome]:
    """Judge the student, then do and judge every step; yields each outcome as it ends, finished ones from their files.

    Raises ConfigError if the recipe's folder holds the steps of another recipe or student, or another process works there;
    InterruptedRunError after Ctrl-C in a repair (state saved); and whatever a step raises, which costs none of those before it.
    """
    with RunFolder(recipe.folder).lock():
        chain = _digest(recipe.subset, subject.identity, _hash(subject.original))
        outcome = _step(recipe.folder / ORIGINAL, chain, subject, {}, lambda _: Made(model=subject.original))
        yield outcome
        integers: QuantiseConfig | None = None
        for step in recipe.steps:
            settings = json.loads(json.dumps(dataclasses.asdict(step.settings)))  # as outcome.json has them
            chain = _digest(chain, step.kind, step.part, settings)
            if isinstance(step.settings, QuantiseConfig):
                integers = step.settings
            work = _work(step, outcome.made.model, integers, subject)
            outcome = _step(recipe.folder / step.name, chain, subject, settings, work)
            yield outcome


def _work(step: Step, model: Path, integers: QuantiseConfig | None, subject: Subject) -> Callable[[Path], Made]:
    """What a step does, given its folder."""
    settings = step.settings
    if isinstance(settings, RepairConfig):
        return lambda folder: subject.repair(model, settings, folder)
    if isinstance(settings, QuantiseConfig):
        return lambda folder: subject.quantise(model, settings, folder)
    if isinstance(settings, ExportConfig):
        return lambda folder: subject.export(model, settings, integers, folder)
    return lambda folder: subject.change(model, step, folder)


def _step(folder: Path, chain: str, subject: Subject, settings: Mapping[str, Any], work: Callable[[Path], Made]) -> Outcome:
    path = folder / OUTCOME
    if path.exists():
        content = read_json(path)
        if content["chain"] != chain:
            raise ConfigError(
                f"{folder} holds a step of another recipe, student or data",
                there=json.dumps(content["settings"])[:120],
                here=json.dumps(settings)[:120],
                to_mend="another --name, or move that folder away",
            )
        return Outcome(name=folder.name, made=_made(content, folder), content=content, found_finished=True)
    started = time.monotonic()
    with written_or_told(f"the step in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    made = work(folder)
    worked = time.monotonic() - started
    content = {
        "step": folder.name,
        "chain": chain,
        "settings": settings,
        "model": _place(made.model, folder),
        "file": None if made.file is None else _place(made.file, folder),
        "notes": made.notes,
        **subject.cost(made),
        **subject.judge(made),
        "seconds": round(worked, 2),
        "environment": environment(),
    }
    with written_or_told(str(path)):
        write_json(path, content)
    return Outcome(name=folder.name, made=made, content=content, found_finished=False)


def _place(path: Path, folder: Path) -> str:
    """A path as it is written down: inside the recipe's folder from there, so that this can be moved."""
    inside = path.resolve().is_relative_to(folder.parent.resolve())
    return str(path.resolve().relative_to(folder.parent.resolve())) if inside else str(path)


def _made(content: Mapping[str, Any], folder: Path) -> Made:
    file = content["file"]
    return Made(model=folder.parent / content["model"], file=None if file is None else folder.parent / file, notes=content["notes"])


def _hash(student: Path) -> str:
    return sha256(checkpoint_in(student) if student.is_dir() else student)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
