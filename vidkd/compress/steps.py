"""The steps of a recipe, one after another, each in a folder of its own: what is finished is kept, and a recipe resumes behind it."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import read_json, sha256, write_json, writing
from vidkd.base.settings import as_dict, flatten
from vidkd.compress.recipe import ExportConfig, PruneConfig, QuantiseConfig, Recipe, RepairConfig, Step
from vidkd.compress.subject import Made, Subject
from vidkd.detection.opening import darknet_files
from vidkd.engine.devices import environment
from vidkd.engine.run_folder import RunFolder
from vidkd.models.saved import checkpoint_in

OUTCOME, CHAIN = "outcome.json", "chain.json"
ORIGINAL = "0_original"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step left: its name, the network that it made, and outcome.json. found_finished: it was finished before."""

    name: str
    made: Made
    content: Mapping[str, Any]
    found_finished: bool

    @property
    def rows(self) -> dict[str, Mapping[str, Any]]:
        """Rows of a table: the content under the step's name; of several files each, with its suffix after that name."""
        further = self.content.get("further", {})
        if not further:
            return {self.name: self.content}
        files = {self.content["file"]: {}, **further}
        return {self.name + Path(file).suffix: {**self.content, **figures} for file, figures in files.items()}


def run_recipe(recipe: Recipe, subject: Subject) -> Iterator[Outcome]:
    """Judge the student, then do and judge every step; yields each outcome as it ends, finished ones from their files.

    Raises ConfigError if the recipe's folder holds the steps of another recipe, student, teacher, data set or settings, or another process
    works there, and as `Subject.check` does; DataError for a finished step whose files are gone; InterruptedRunError after
    Ctrl-C in a repair (state saved); and whatever a step raises, which costs none of those before it.
    """
    subject.check(recipe.steps, [step for step in recipe.steps if not (recipe.folder / step.name / OUTCOME).exists()])
    with RunFolder(recipe.folder).lock():
        begun = {"subset": recipe.subset, "student": _hash(subject.original), **subject.identity}
        chain = _claim(recipe.folder / ORIGINAL, "", begun)
        network = outcome = _outcome(recipe.folder / ORIGINAL, subject, None, lambda _: Made(model=subject.original))
        yield outcome
        integers, whole = None, subject.original
        for step in recipe.steps:
            if isinstance(step.settings, QuantiseConfig):
                integers = step.settings
            if isinstance(step.settings, PruneConfig) and step.part == 1:
                whole = outcome.made.model
            folder = recipe.folder / step.name
            depends = {**as_dict(step.settings), "part": step.part, "learns_from": subject.learns_from(step)}
            chain = _claim(folder, chain, depends)
            work = partial(_done, subject, step, outcome.made.model, network.content, integers, whole)
            outcome = _outcome(folder, subject, step, work)
            if outcome.made.file is None:
                network = outcome
            yield outcome


def _done(
    subject: Subject, step: Step, model: Path, judged: Mapping[str, Any], integers: QuantiseConfig | None, whole: Path, folder: Path
) -> Made:
    """Do a step. judged: the last outcome of the network in float. integers: where it was quantised."""
    settings = step.settings
    if isinstance(settings, RepairConfig):
        return subject.repair(model, settings, folder)
    if isinstance(settings, QuantiseConfig | ExportConfig):
        return subject.export(model, settings if isinstance(settings, ExportConfig) else ExportConfig(), integers, judged, folder)
    return subject.change(model, step, folder, whole=whole)


def _outcome(folder: Path, subject: Subject, step: Step | None, work: Callable[[Path], Made]) -> Outcome:
    """The outcome of a step, which is done unless it is there."""
    path = folder / OUTCOME
    found_finished = path.exists()
    if not found_finished:
        started = time.monotonic()
        with writing(path):
            made = work(folder)
            seconds = round(time.monotonic() - started, 2)
            content = {
                "step": folder.name,
                "settings": {} if step is None else as_dict(step.settings),
                "model": None if made.model == subject.original else _place(made.model, folder),
                "file": None if made.file is None else _place(made.file, folder),
                "files": [_place(path, folder) for path in made.files],
                "notes": made.notes,
                **subject.figures(made),
                "further": {file.name: subject.figures(dataclasses.replace(made, file=file)) for file in made.further},
                "seconds": seconds,
                "environment": environment(),
            }
            write_json(path, content)
    content = read_json(path)
    return Outcome(name=folder.name, made=_made(content, folder, subject), content=content, found_finished=found_finished)


def _claim(folder: Path, before: str, depends_on: Mapping[str, Any]) -> str:
    """Write down what the step in a folder depends on, and give the digest of that and of all steps before it.

    Raises ConfigError if something that depends on other things is there.
    """
    note = folder / CHAIN
    content = {"before": before, "depends_on": json.loads(json.dumps(depends_on))}
    there = read_json(note) if note.exists() else content
    if there != content and ((folder / OUTCOME).exists() or RunFolder(folder).has_checkpoint()):
        then, now = flatten(there["depends_on"]), flatten(content["depends_on"])
        names = [name for name in dict.fromkeys((*now, *then)) if then.get(name) != now.get(name)]
        raise ConfigError(
            f"{folder} holds a step of another recipe, student, teacher, data set or settings",
            **(
                {name: f"{str(then.get(name))[:40]} there, {str(now.get(name))[:40]} now" for name in names[:6]}
                or {"differs": "a step before"}
            ),
            hint="another --name, or move that folder and those after it away",
        )
    write_json(note, content)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _place(path: Path, folder: Path) -> str:
    """A path as recorded: inside the recipe's folder relative to it, so that this can be moved."""
    path, home = path.resolve(), folder.parent.resolve()
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)


def _made(content: Mapping[str, Any], folder: Path, subject: Subject) -> Made:
    """What a finished step left. Raises DataError if that is gone."""
    model = subject.original if content["model"] is None else folder.parent / content["model"]
    files = tuple(folder.parent / name for name in content["files"])
    for path in (model, *files):
        if not path.exists():
            hint = "move its folder and those after it away: they are done again"
            raise DataError(f"{folder.name} was finished, and what it made is gone: {path}", hint=hint)
    file = None if content["file"] is None else folder.parent / content["file"]
    return Made(model=model, file=file, further=tuple(folder / name for name in content["further"]), notes=content["notes"], files=files)


def _hash(student: Path) -> str:
    """Of the file of a student, or of the darknet files that it consists of."""
    return "".join(sha256(path)[:16] for path in darknet_files(student).values() or [checkpoint_in(student)])
