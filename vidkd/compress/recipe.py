"""A recipe of compression: a trained student and the steps that it goes through, read strictly from YAML."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.roots import find_below
from vidkd.base.settings import load_settings, merge
from vidkd.compress.config import DistilConfig, ExportConfig, FactoriseConfig, PruneConfig, QuantiseConfig, RefitConfig, RepairConfig
from vidkd.engine.loop_config import with_threads_of_here

# The teacher of a repair that is the student before any step.
ORIGINAL = "original"
# Settings of a student's own run that mean nothing to another task.
OF_ANOTHER_TASK = ("method", "teacher", "teacher_settings")

StepSettings = PruneConfig | FactoriseConfig | RefitConfig | RepairConfig | DistilConfig | QuantiseConfig | ExportConfig
SETTINGS: dict[str, type[Any]] = {
    "prune": PruneConfig,
    "factorise": FactoriseConfig,
    "refit": RefitConfig,
    "repair": RepairConfig,
    "distil": DistilConfig,
    "quantise": QuantiseConfig,
    "export": ExportConfig,
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. number: its place, from 1. settings: one of SETTINGS. part: which of the steps of a pruning in several."""

    number: int
    kind: str
    settings: StepSettings
    part: int = 1

    @property
    def name(self) -> str:
        """Name of its folder and of its row in the table."""
        return f"{self.number}_{self.kind}"


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """A recipe as written.

    student: run, checkpoint, or a darknet cfg with its weights and names. name: folder below `runs`, by default the file's name.
    subset: what every step is judged on. settings: over those of the student's run. footage: videos on which a detector is refitted and
    distilled, and the ranges of its integers are found, in place of its training frames.
    """

    student: str = ""
    steps: tuple[Any, ...] = ()
    name: str | None = None
    runs: str = "runs"
    subset: Literal["val", "test"] = "test"
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    names: str | None = None
    footage: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeFile):
    """A student and what is done to it.

    roots: folders below which files of a detector are looked for, before the working folder. path: its file.
    """

    steps: tuple[Step, ...]
    name: str
    roots: tuple[Path, ...] = ()
    path: Path | None = None

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return Path(self.runs) / self.name

    def found(self, name: str) -> Path:
        """A file that it names. Raises ConfigError for one that is not there."""
        return find_below(name, (*self.roots, Path()), named_by=self.path or f"recipe {self.name}")

    def seeded(self, seed: int) -> "Recipe":
        """The same with this seed in all that its steps draw."""
        return dataclasses.replace(self, steps=tuple(_seeded(step, seed) for step in self.steps))


def _seeded(step: Step, seed: int) -> Step:
    settings = step.settings
    if isinstance(settings, RepairConfig):
        return dataclasses.replace(step, settings=RepairConfig(settings=merge(settings.settings, {"train": {"seed": seed}})))
    if isinstance(settings, FactoriseConfig | ExportConfig):
        return step
    return dataclasses.replace(step, settings=dataclasses.replace(settings, seed=seed))


def read_recipe(
    path: Path | str,
    *,
    student: str | None = None,
    name: str | None = None,
    runs: str | None = None,
    seed: int | None = None,
    roots: Sequence[Path] = (),
) -> Recipe:
    """Read a recipe; student, name and runs replace the file's, and a seed, which is added to its name, that of its steps.

    Raises ConfigError with file and key for what cannot be.
    """
    path = Path(path)
    given = {key: value for key, value in (("student", student), ("name", name), ("runs", runs)) if value}
    written = load_settings(RecipeFile, path, settings=given)
    if not written.student:
        raise ConfigError("no student to compress", where=str(path), hint="student: RUN in the file, or --model RUN")
    content = {entry.name: getattr(written, entry.name) for entry in dataclasses.fields(RecipeFile)}
    content["steps"] = parse_steps(written.steps, str(path))
    content["name"] = name or (written.name or path.stem) + ("" if seed is None else f"-seed{seed}")
    recipe = Recipe(**content, roots=tuple(roots), path=path)
    return recipe if seed is None else recipe.seeded(seed)


def parse_steps(written: Sequence[Any], where: str) -> tuple[Step, ...]:
    """Steps as written, [{"prune": {...}}, ...], in the order in which they are done.

    A pruning in n steps is done in n parts, each with the repair that follows it. Raises ConfigError naming the step: of unknown kind, with
    settings that cannot be, a pruning in several steps without a repair behind it, or weights that change after they are in integers.
    """
    if not written:
        raise ConfigError("a recipe needs at least one step", where=where, known=", ".join(SETTINGS))
    found = [_parsed(entry, f"{where}: steps[{place}]") for place, entry in enumerate(written)]
    kinds = [kind for kind, _ in found]
    if "quantise" in kinds and set(kinds[kinds.index("quantise") + 1 :]) - {"export"}:
        raise ConfigError("after `quantise` a network can only be exported", where=where, hint="put the other steps before it")
    ordered: list[tuple[str, StepSettings, int]] = []
    for place, (kind, settings) in enumerate(found):
        before = found[place - 1][1] if place else None
        if isinstance(before, PruneConfig) and before.steps > 1:
            continue  # its repair, which is there already
        parts = settings.steps if isinstance(settings, PruneConfig) else 1
        if parts > 1 and kinds[place + 1 : place + 2] not in (["repair"], ["distil"]):
            raise ConfigError(
                f"pruning in {parts} steps is repaired in between, and no repair follows it",
                where=f"{where}: steps[{place}]",
                hint="a step `repair` behind it (of a detector also `distil`), or steps: 1",
            )
        for part in range(1, parts + 1):
            ordered += [(kind, settings, part), *([(*found[place + 1], 1)] if parts > 1 else [])]
    return tuple(Step(number=number, kind=kind, settings=one, part=part) for number, (kind, one, part) in enumerate(ordered, 1))


def _parsed(entry: Any, where: str) -> tuple[str, StepSettings]:
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError("a step is one kind with its settings", where=where, found=repr(entry)[:80], example="prune: {ratio: 0.5}")
    ((kind, given),) = entry.items()
    if kind not in SETTINGS:
        raise unknown_name("step", str(kind), SETTINGS, where=where)
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise ConfigError(f"a step {kind} holds settings by name, not one value", where=where, found=repr(given)[:80])
    if kind == "repair":
        return kind, RepairConfig(settings=merge({}, given))
    return kind, load_settings(SETTINGS[kind], settings=given, where=f"{where}, {kind}")


def repaired_settings(own: Mapping[str, Any], over: Mapping[str, Any], *, original: str) -> dict[str, Any]:
    """The settings of a repair: those of the student's own run, with `over` over them.

    Another task than that of the run takes nothing of its method or teacher. The teacher "original" is the student before any step, in
    the folder `original`. Threads are as many as there are cores here, if the run had more.
    """
    kept = {key: value for key, value in with_threads_of_here(own).items() if key not in ("name", "runs", "init")}
    if over.get("task", kept.get("task")) != kept.get("task"):
        kept = {key: value for key, value in kept.items() if key not in OF_ANOTHER_TASK}
    if over.get("teacher") == ORIGINAL:
        over = {**over, "teacher": original, "teacher_settings": None}
    return merge(kept, over)
