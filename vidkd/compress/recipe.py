"""A recipe of compression: a trained student and the steps that it goes through with their settings, read strictly from YAML."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.fields import Bounds, Count, Positive
from vidkd.base.roots import find_below
from vidkd.base.settings import load_settings, merge
from vidkd.engine.loop_config import with_threads_of_here
from vidkd.models.changes import Method

Criterion = Literal["l1", "l2", "norm_scale", "taylor", "random"]
Format = Literal["onnx", "xml", "pt2", "darknet"]
# How far an exported file may be from its network: of any output, times the largest output where that is above 1.
TOLERANCE = 1e-4
# A number in (0, 1), in (0, 1].
Part = Annotated[float, Bounds(gt=0, lt=1)]
Most = Annotated[float, Bounds(gt=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """Which filters are removed.

    Attributes:
        ratio: share of the filters that may go which is removed in the end, in (0, 1). Parameters shrink by about 1 - (1 - ratio)^2.
        criterion: what a filter is kept for: "l1" or "l2" norm of its weights, "norm_scale" the scale of its batch normalisation (after
            training with `vidkd.losses.slimming`), "taylor" what the loss would change by without it (to first order), "random" nothing.
        scope: "global" ranks the filters of all layers together, "uniform" takes the same share of each layer.
        steps: in how many steps the ratio is reached; between them the network is repaired.
        most_of_layer: "global" never takes more than this share of one layer, in (0, 1], over all its steps together.
        exclude: patterns of layers (`backbone.net.stem*`) that keep all filters, besides those that are found by rule.
        seed: of "random".
    """

    ratio: Part = 0.5
    criterion: Criterion = "l2"
    scope: Literal["global", "uniform"] = "global"
    steps: Count = 1
    most_of_layer: Most = 0.9
    exclude: tuple[str, ...] = ()
    seed: int = 0

    def share(self, step: int) -> float:
        """The share of the filters left before this step (from 1) that it removes, so that the last one reaches `ratio` in even steps."""
        return (self.ratio / self.steps) / (1 - self.ratio * (step - 1) / self.steps)


@dataclass(frozen=True, kw_only=True)
class FactoriseConfig:
    """Which layers become products of smaller ones, and of what rank. Either energy or macs is given.

    Attributes:
        method: "channel" or "spatial" (singular values), "tucker" (both channel dimensions), or "any": whichever serves a layer
            best.
        energy: each layer keeps at least this share of its squared singular values, in (0, 1]; of each mode for "tucker".
        macs: the whole network takes at most this share of its MACs, in (0, 1), at the largest product of kept energies.
        exclude: patterns of layers that stay unchanged.
    """

    method: Method | Literal["any"] = "channel"
    energy: Most | None = None
    macs: Part | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.energy is None) == (self.macs is None):
            raise ConfigError("either energy or macs decides the ranks")


@dataclass(frozen=True, kw_only=True)
class RefitConfig:
    """Layers of what is left of a detector are fitted to the outputs of the whole network, by least squares on footage.

    Attributes:
        frames: how many are drawn, as `distil` draws them.
        ridge: pull of the weights towards what they were, as a share of the mean square of their inputs, above 0.
        seed: of frames and places.
    """

    frames: Count = 60
    ridge: Positive = 0.01
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """What is left of a detector learns from the network before any step, on the recipe's footage (or else its training frames).

    Attributes:
        frames: how many are drawn, as many of each video, one of each stretch of it; each is learned from `passes` times, in an order
            drawn again each time.
        passes: see frames.
        norms: measure the statistics of batch normalisation again on these frames (a hundred or more serve well) before anything is
            learned: behind filters that went, those of the whole network are wrong.
        seed: of all that is drawn.
        update: settings of one update, as those of `vidkd tkd`, without `interpolate` and `retain`. `loss: matched_heads` compares raw
            heads cell by cell.
    """

    frames: Count = 200
    passes: Count = 1
    norms: bool = False
    seed: int = 0
    update: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class QuantiseConfig:
    """Which layers of an exported file compute in eight-bit integers, with ranges of activations that are found on training data.

    Attributes:
        clips: how many training clips (pictures of a detector) the ranges are found on, drawn over all classes.
        seed: of the draw.
        weight_bits: 8, or 7 for processors whose eight-bit products saturate (x86 without VNNI).
        exclude: patterns of layers that stay in float.
    """

    clips: Count = 128
    seed: int = 0
    weight_bits: Literal[7, 8] = 8
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Files that are written of the network, in integers after a step `quantise`.

    Attributes:
        formats: onnx, xml (OpenVINO) or pt2; of a detector onnx, xml or darknet (cfg and weights).
        licence: of the weights, for the card.
        tolerance: how far a file may be from its network, of outputs up to 1 and in proportion above; not of integers, which round.
    """

    formats: Annotated[tuple[Format, ...], Bounds(min_length=1)] = ("onnx",)
    licence: str | None = None
    tolerance: Positive = TOLERANCE


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Training of what is left.

    Attributes:
        settings: settings over those of the student's own run. `teacher: original` is the student as it was before any step.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)


# The teacher of a repair that is the student before any step.
ORIGINAL = "original"
# Settings of a student's own run that mean nothing to another task.
OF_ANOTHER_TASK = ("method", "teacher", "teacher_settings", "more_teachers")

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
        over = {**over, "teacher": original, "teacher_settings": None, "more_teachers": []}
    return merge(kept, over)
