"""The steps of a recipe, one after another, each in a folder of its own: what is finished is kept, and a recipe goes on where it was."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import read_json, sha256, write_json
from vidkd.compress.config import PruneConfig, QuantiseConfig
from vidkd.compress.parity import warn_if_saturating
from vidkd.compress.recipe import ExportConfig, Recipe, RepairConfig, Step
from vidkd.compress.subject import Made, Subject
from vidkd.detection.opening import darknet_files
from vidkd.engine.checkpoint import report_write_errors
from vidkd.engine.environment import environment
from vidkd.engine.run_folder import RunFolder, flatten
from vidkd.models.saved import checkpoint_in

OUTCOME, CHAIN = "outcome.json", "chain.json"
SHOWN, SHOWN_LETTERS = 6, 40
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
        """What stands apart in a table: the content under the step's name; of several files each, with its suffix behind that name."""
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
    for step in recipe.steps:
        if isinstance(step.settings, QuantiseConfig):
            warn_if_saturating(step.settings, "quantise: {weight_bits: 7}")
    with RunFolder(recipe.folder).lock():
        begun = {"subset": recipe.subset, "student": _hash(subject.original), **subject.identity}
        chain = _digest(recipe.subset, subject.identity, begun["student"])
        _claim(recipe.folder / ORIGINAL, chain, begun)
        outcome = _step(recipe.folder / ORIGINAL, subject, {}, lambda _: Made(model=subject.original))
        yield outcome
        network, integers, whole = outcome, None, subject.original
        for step in recipe.steps:
            settings = step.told
            teacher = subject.taught_by(step)
            chain = _digest(chain, step.kind, step.part, settings, *(() if teacher is None else (teacher,)))
            if isinstance(step.settings, QuantiseConfig):
                integers = step.settings
            if isinstance(step.settings, PruneConfig) and step.part == 1:
                whole = outcome.made.model
            work = _work(step, outcome.made.model, network, integers, whole, subject)
            _claim(recipe.folder / step.name, chain, {**settings, "taught_by": teacher})
            outcome = _step(recipe.folder / step.name, subject, settings, work)
            if outcome.made.file is None:
                network = outcome
            yield outcome


def _work(
    step: Step, model: Path, network: Outcome, integers: QuantiseConfig | None, whole: Path, subject: Subject
) -> Callable[[Path], Made]:
    """What a step does, given its folder. network: the last outcome that was judged as a network in float, not as a file."""
    settings = step.settings
    if isinstance(settings, RepairConfig):
        return lambda folder: subject.repair(model, settings, folder)
    if isinstance(settings, QuantiseConfig):
        return lambda folder: subject.quantise(model, settings, network.content, folder)
    if isinstance(settings, ExportConfig):
        return lambda folder: subject.export(model, settings, integers, network.content, folder)
    return lambda folder: subject.change(model, step, folder, whole=whole)


def _step(folder: Path, subject: Subject, settings: Mapping[str, Any], work: Callable[[Path], Made]) -> Outcome:
    """The outcome of a step, which is done unless it is there."""
    path = folder / OUTCOME
    if path.exists():
        content = read_json(path)
        return Outcome(name=folder.name, made=_made(content, folder, subject), content=content, found_finished=True)
    started = time.monotonic()
    with report_write_errors(f"what the step {folder} makes"):
        made = work(folder)
    worked = time.monotonic() - started
    content = {
        "step": folder.name,
        "settings": settings,
        "model": None if made.model == subject.original else _place(made.model, folder),
        "file": None if made.file is None else _place(made.file, folder),
        "files": [_place(path, folder) for path in made.files],
        "notes": made.notes,
        **_figures(made, subject),
        "further": {file.name: _figures(dataclasses.replace(made, file=file), subject) for file in made.further},
        "seconds": round(worked, 2),
        "environment": environment(),
    }
    with report_write_errors(str(path)):
        write_json(path, content)
    return Outcome(name=folder.name, made=made, content=content, found_finished=False)


def _figures(made: Made, subject: Subject) -> dict[str, Any]:
    return {**subject.cost(made), **subject.judge(made)}


def _claim(folder: Path, chain: str, depends_on: Mapping[str, Any]) -> None:
    """Note in a folder which chain of steps it belongs to, finished or not. Raises ConfigError if something of another one is in it."""
    note = folder / CHAIN
    there = read_json(note) if note.exists() else {}
    if there.get("chain") == chain:
        return
    if there and ((folder / OUTCOME).exists() or RunFolder(folder).has_checkpoint()):
        differing = _differing(there.get("depends_on", {}), json.loads(json.dumps(depends_on)))
        raise ConfigError(
            f"{folder} holds a step of another recipe, student, teacher, data set or settings",
            **differing or {"differs": "the student, the data set, or a step before this one"},
            hint="another --name, or move that folder and those after it away",
        )
    with report_write_errors(f"the step in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(note, {"chain": chain, "depends_on": depends_on})


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, str]:
    """The first settings that are others, with what they were and are."""
    then, now = flatten(there), flatten(here)
    names = [name for name in dict.fromkeys((*now, *then)) if then.get(name) != now.get(name)]
    return {name: f"{_short(then.get(name))} there, {_short(now.get(name))} now" for name in names[:SHOWN]} if then else {}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}..."


def _place(path: Path, folder: Path) -> str:
    """A path as it is written down: inside the recipe's folder from there, so that this can be moved."""
    path, home = path.resolve(), folder.parent.resolve()
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)


def _made(content: Mapping[str, Any], folder: Path, subject: Subject) -> Made:
    """What a finished step left. Raises DataError if that is gone, or outcome.json does not say it."""
    missing = [key for key in ("model", "file", "notes", "metrics", "parameters", "macs", "bytes") if key not in content]
    if missing:
        raise DataError(f"not the outcome of a step: {folder / OUTCOME}", missing=", ".join(missing), hint=_AGAIN)
    model = subject.original if content["model"] is None else folder.parent / content["model"]
    file = None if content["file"] is None else folder.parent / content["file"]
    further = tuple(folder / name for name in content.get("further", {}))
    files = tuple(folder.parent / name for name in content.get("files", ()))  # which those of earlier versions lack
    judged = [path for path in (file, *further) if path is not None]
    weights = [path.with_suffix(".bin") for path in judged if path.suffix == ".xml"]
    for path in (model, *judged, *weights, *files):
        if not path.exists():
            raise DataError(f"{folder.name} was finished, and what it made is gone: {path}", hint=_AGAIN)
    return Made(model=model, file=file, further=further, notes=content["notes"], files=files)


_AGAIN = "move its folder and those after it away: they are done again"


def _hash(student: Path) -> str:
    """Of the file of a student, or of the darknet files that it consists of."""
    files = darknet_files(student)
    return _digest(*(sha256(path) for path in files.values())) if files else sha256(checkpoint_in(student))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
