"""A recipe of compression: a trained student and the steps that it goes through, read strictly from YAML."""

import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.roots import find_below
from vidkd.base.settings import load_settings, merge
from vidkd.compress.config import TOLERANCE, DistilConfig, FactoriseConfig, PruneConfig, QuantiseConfig, RefitConfig
from vidkd.engine.loop_config import LoopConfig, with_threads_of_here

log = logging.getLogger(__name__)
ORIGINAL = "original"
"""The teacher of a repair, or the oracle, that is the student as it was before any step."""
INSTEAD_OF_DISTIL = "repair: {task: logits_kd, teacher: original}, or another task with a teacher"
"""What a classifier has where a detector has `distil`."""
OF_ANOTHER_TASK = ("method", "teacher", "teacher_settings")
"""Settings of a student's own run that mean nothing to another task."""

Format = Literal["onnx", "xml", "pt2", "darknet"]
WITH_INTEGERS: tuple[Format, ...] = ("onnx", "xml")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Files that are written of the student as it is then, in integers after a step `quantise`.

    Attributes:
        formats: onnx, xml (OpenVINO) or pt2; of a detector onnx, xml or darknet (cfg and weights).
        licence: of the weights, for the card.
        tolerance: how far a file may be from its network, of outputs up to 1 and in proportion above; not of integers, which round.
    """

    formats: tuple[Format, ...] = ("onnx",)
    licence: str | None = None
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if not self.formats:
            raise ConfigError("formats must name at least one format")
        if not 0 < self.tolerance < math.inf:
            raise ConfigError(f"tolerance must be a number above 0, not {self.tolerance}")


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Training of what is left.

    Attributes:
        settings: settings over those of the student's own run. `teacher: original` is the student as it was before any step.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)


SETTINGS: dict[str, type] = {
    "prune": PruneConfig,
    "factorise": FactoriseConfig,
    "refit": RefitConfig,
    "repair": RepairConfig,
    "distil": DistilConfig,
    "quantise": QuantiseConfig,
    "export": ExportConfig,
}
"""What configures each kind of step."""
REPAIRS = ("repair", "distil")
"""Kinds of steps that train what is left."""
StepSettings = PruneConfig | FactoriseConfig | RefitConfig | RepairConfig | DistilConfig | QuantiseConfig | ExportConfig


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

    @property
    def told(self) -> dict[str, Any]:
        """Its settings as outcome.json has them; left out at its default is what came later, so that steps done before it stay the same."""
        told: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self.settings)))
        if isinstance(self.settings, ExportConfig) and self.settings.tolerance == TOLERANCE:
            del told["tolerance"]
        return told


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A student and what is done to it.

    student: run, checkpoint, or a darknet cfg with its weights and names. name: folder below `runs`. subset: what every step is judged on.
    settings: over those of the student's run. footage: videos on which a detector is refitted and distilled, and the ranges of its integers
    are found, in place of its training frames. roots: folders below which files of a detector are looked for, before the working folder.
    path: its file.
    """

    student: str
    steps: tuple[Step, ...]
    name: str
    runs: str = "runs"
    subset: Literal["val", "test"] = "test"
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    names: str | None = None
    footage: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    path: Path | None = None

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return Path(self.runs) / self.name

    def refuse_files(self, student: str) -> None:
        """Raise ConfigError where it names weights or class names, which belong to a cfg. student: what its student is instead."""
        named = [f"`{key}`" for key in ("weights", "names") if getattr(self, key)]
        if named:
            mend = f"leave out {' and '.join(named)}"
            raise ConfigError(f"{' and '.join(named)} belong to a darknet cfg; the student is {student}", where=self.path, hint=mend)

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
    if isinstance(settings, PruneConfig | RefitConfig | DistilConfig | QuantiseConfig):
        return dataclasses.replace(step, settings=dataclasses.replace(settings, seed=seed))
    return step


@dataclass(frozen=True, kw_only=True)
class _Written:
    """A recipe as it is written."""

    student: str = ""
    steps: tuple[Any, ...] = ()
    name: str | None = None
    runs: str = "runs"
    subset: Literal["val", "test"] = "test"
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    names: str | None = None
    footage: tuple[str, ...] = ()


def read_recipe(
    path: Path | str,
    *,
    student: str | None = None,
    name: str | None = None,
    runs: str | None = None,
    seed: int | None = None,
    roots: Sequence[Path] = (),
) -> Recipe:
    """Read a recipe; student, name and runs stand in place of the file's, and a seed, which its name then tells, in place of its steps'.

    Raises ConfigError with file and key for what cannot be.
    """
    path = Path(path)
    written = load_settings(_Written, path)
    whose = student or written.student
    if not whose:
        raise ConfigError("no student to compress", where=str(path), hint="student: RUN in the file, or --student RUN")
    steps = parse_steps(written.steps, str(path))
    named = (written.name or path.stem) + ("" if seed is None else f"-seed{seed}")
    here = {"student": whose, "steps": steps, "name": name or named, "runs": runs or written.runs}
    recipe = Recipe(
        **{**{entry.name: getattr(written, entry.name) for entry in dataclasses.fields(written)}, **here}, roots=tuple(roots), path=path
    )
    return recipe if seed is None else recipe.seeded(seed)


def parse_steps(written: Sequence[Any], where: str) -> tuple[Step, ...]:
    """Steps as they are written, [{"prune": {...}}, ...], in the order in which they are done.

    A pruning in n steps is done in n parts, each with the repair that follows it. Raises ConfigError naming the step: of unknown kind, with
    settings that cannot be, a pruning in several steps without a repair behind it, or weights that change after they are in integers.
    """
    if not written:
        raise ConfigError("a recipe needs at least one step", where=where, known=", ".join(SETTINGS))
    found: list[tuple[str, StepSettings]] = []
    for place, entry in enumerate(written):
        found.append(_parsed(entry, f"{where}: steps[{place}]", _number(found)))
    _check_order([kind for kind, _ in found], where)
    ordered: list[tuple[str, StepSettings, int]] = []
    place = 0
    while place < len(found):
        kind, settings = found[place]
        if isinstance(settings, PruneConfig) and settings.steps > 1:
            if place + 1 == len(found) or found[place + 1][0] not in REPAIRS:
                raise ConfigError(
                    f"pruning in {settings.steps} steps is repaired in between, and no repair follows it",
                    where=f"{where}: steps[{place}], {_number(found[:place])}_{kind}",
                    hint="a step `repair` behind it (of a detector also `distil`), or steps: 1",
                )
            for part in range(1, settings.steps + 1):
                ordered += [(kind, settings, part), (*found[place + 1], 1)]
            place += 2
        else:
            ordered.append((kind, settings, 1))
            place += 1
    return tuple(Step(number=number, kind=kind, settings=one, part=part) for number, (kind, one, part) in enumerate(ordered, 1))


def _number(before: Sequence[tuple[str, StepSettings]]) -> int:
    """The number of the step that follows these as they are written: a pruning in n steps is n of them, and so is its repair."""
    parts = [settings.steps if isinstance(settings, PruneConfig) else 1 for _, settings in before]
    return 1 + len(before) + sum(2 * (count - 1) for count in parts[:-1])


def _parsed(entry: Any, where: str, number: int) -> tuple[str, StepSettings]:
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError("a step is one kind with its settings", where=where, found=repr(entry)[:80], example="prune: {ratio: 0.5}")
    ((kind, given),) = entry.items()
    if kind not in SETTINGS:
        raise unknown_name("step", str(kind), SETTINGS, where=where)
    where = f"{where}, {number}_{kind}"
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise ConfigError(f"a step {kind} holds settings by name, not one value", where=where, found=repr(given)[:80])
    if kind == "repair":
        return kind, RepairConfig(settings=merge({}, given))
    try:
        settings: StepSettings = load_settings(SETTINGS[kind], settings=given, where=where)
    except ConfigError as error:
        raise (error.with_lines(of_a_classifier=INSTEAD_OF_DISTIL) if kind == "distil" else error) from None
    return kind, settings


def _check_order(kinds: Sequence[str], where: str) -> None:
    if "quantise" in kinds and any(kind not in ("quantise", "export") for kind in kinds[kinds.index("quantise") :]):
        raise ConfigError("after `quantise` a network can only be exported", where=where, hint="put the other steps before it")
    if kinds.count("quantise") > 1:
        raise ConfigError("a network is quantised once", where=where)


def check_formats(steps: Sequence[Step], known: Sequence[Format]) -> None:
    """Raise ConfigError for a format that this kind of network has not.

    Where it was quantised before also for one that holds no integers, and for a tolerance, to which files in integers are not held.
    """
    quantised = False
    for step in steps:
        quantised |= step.kind == "quantise"
        if quantised and isinstance(step.settings, ExportConfig) and step.settings.tolerance != TOLERANCE:
            mend = "leave out tolerance: how far such a file is from its network is told"
            raise ConfigError(f"{step.name}: files in integers are held to no tolerance", hint=mend)
        for form in step.settings.formats if isinstance(step.settings, ExportConfig) else ():
            if form not in known:
                raise ConfigError(f"{step.name}: this kind of network has no files of format {form}", known=", ".join(known))
            if quantised and form not in WITH_INTEGERS:
                mend = "export it before `quantise`"
                raise ConfigError(f"{step.name}: files of format {form} hold no integers", hint=mend, known=", ".join(WITH_INTEGERS))


def say_fewer_threads(own: Mapping[str, Any], config: LoopConfig) -> None:
    """Log where a repair has fewer threads than the student's own run."""
    had = (own.get("train") or {}).get("threads", 0)
    if had > config.train.threads > 0:
        log.info("the repair takes train.threads=%d; the student's own run took %d", config.train.threads, had)


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
