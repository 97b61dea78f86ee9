"""A study of classifiers: methods x seeds x folds, read strictly from YAML, and the run configuration of each of its cells."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vidkd.base.errors import ConfigError
from vidkd.base.settings import as_dict, with_places_of
from vidkd.base.yaml_files import merge
from vidkd.bench.study import BaseMethodSpec, BaseStudySpec, BaseTuningSpec, CellKey, Chosen, Phase, check_known
from vidkd.bench.summary import METRIC_LETTERS, fits_in_metric
from vidkd.compress.recipe import RepairConfig, parse_steps, repaired_settings
from vidkd.engine.config import RunConfig, check_solvable, load_config

if TYPE_CHECKING:
    from vidkd.bench.clip_study import ClipStudy

DECIDED = {
    "name": "a cell names its run",
    "runs": "--runs DIR",
    "train.seed": "`seeds` in the study, or --seeds",
    "data.split": "`folds` in the study",
    "teacher": "`methods.<name>.teacher` in the study",
    "teacher_settings": "`methods.<name>.teacher` in the study",
    "more_teachers": "`methods.<name>.teacher` in the study, a method with `mean_of`",
}
"""Settings that the study itself decides, and where."""


@dataclass(frozen=True, kw_only=True)
class MethodSpec(BaseMethodSpec):
    """One method of a study.

    Args:
        settings: settings over those of the study.
        teacher: method whose run of the same seed and fold is the teacher.
        compresses: method whose run of the same seed and fold is made smaller by `steps`, in place of a training; `settings` and trials are
            then those of the repairs, over the settings of that run.
        steps: what is done to it, as in a recipe of `vidkd compress`; without steps it is judged unchanged.
        trials: settings tried on the validation groups of every fold; a fold is tested with the best of its own.
        mean_of: methods whose runs of the same seed and fold answer together, by the mean of their class probabilities; nothing is trained.
            As a `teacher`, these runs teach together.
        starts_from: method whose run of the same seed and fold gives the initial weights (`init`).
        shown_as: name under which it is in the summary; entries of one name differ in their condition.
        condition: what its metrics carry behind an @ (`labels25`), for methods judged under several conditions.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    teacher: str | None = None
    compresses: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    mean_of: list[str] = field(default_factory=list)
    starts_from: str | None = None
    shown_as: str | None = None
    condition: str | None = None

    def __post_init__(self) -> None:
        if self.mean_of and (len(set(self.mean_of)) < 2 or self.settings or self.trials or self.sources != tuple(self.mean_of)):
            raise ConfigError(
                "mean_of names two methods or more, and a method that has it is not trained", hint="mean_of: [rgb, flow], alone"
            )
        if self.steps and self.compresses is None:
            raise ConfigError("steps are done to the run of a method, and none is named", hint="compresses: METHOD")
        if self.compresses is not None and (self.teacher is not None or self.starts_from is not None):
            raise ConfigError(
                "a method that compresses a run has that run's teacher and weights",
                hint="leave out `teacher` and `starts_from`; steps may name another teacher",
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """The methods whose runs of the same seed and fold must be there first."""
        named = (self.compresses, self.teacher, *self.mean_of, self.starts_from)
        return tuple(name for name in named if name is not None)


@dataclass(frozen=True, kw_only=True)
class TuningSpec(BaseTuningSpec):
    """How trials are judged.

    Args:
        validation_fraction: share of the training groups that judges, and is not trained on.
    """

    validation_fraction: float = 0.34


@dataclass(frozen=True, kw_only=True)
class StudySpec(BaseStudySpec):
    """A study of classifiers.

    Args:
        base: run configuration that all methods start from, relative to the study's file.
        settings: settings over `base` for all methods.
        folds: names of splits.
        subset: what the methods are judged on in the end.
        reference: method that all others are compared with.
        methods: the methods, by name.
        shortlist: methods that are tested, with the teachers that they need, where not all are; chosen by what trials showed.
        chosen_from: study whose chosen settings are used, in place of trials here (a configuration carried to other data); of each method
            the trial that was chosen there on most folds, for all folds here.
        labels_by_seed: whether a cell's seed draws which clips have a label, where not all have one, its parts of cross-validation and
            the groups that tuning holds out (`data.split_seed`); by default all seeds have the same.
        measures: further measures of every cell: `pointing` judges attention maps by boxes or moving foreground.
        fractions_shown: observed fractions at which methods of early recognition are compared, and in the mean over them (`top1@obs20-50`);
            by default every one that they are judged at.
    """

    base: str
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    folds: list[str] = field(default_factory=lambda: ["1"])
    subset: Literal["val", "test"] = "test"
    reference: str = "rgb"
    methods: dict[str, MethodSpec] = field(default_factory=dict)
    shortlist: list[str] = field(default_factory=list)
    tuning: TuningSpec = field(default_factory=TuningSpec)
    chosen_from: str | None = None
    labels_by_seed: bool = False
    measures: list[Literal["pointing"]] = field(default_factory=list)
    fractions_shown: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.check()
        for name, method in self.methods.items():
            for key in ("teacher", "compresses", "mean_of", "starts_from"):
                for other in [getattr(method, key)] if isinstance(getattr(method, key), str) else getattr(method, key) or ():
                    check_known(other, self.methods, "method", f"methods.{name}.{key}")
            for source in method.sources:
                if self.methods[source].compresses is not None:
                    raise ConfigError(f"methods.{name} needs a run, and methods.{source} compresses one", hint="all steps in one method")
                if self.methods[source].mean_of and source != method.teacher:
                    raise ConfigError(f"methods.{name} needs a run, and methods.{source} trains none", hint="name methods that are trained")
            if method.condition is not None and not fits_in_metric(method.condition):
                raise ConfigError(f"methods.{name}.condition cannot be in the name of a metric: '{method.condition}'", hint=METRIC_LETTERS)
        for name in self.shortlist:
            check_known(name, self.methods, "method", "shortlist")
        shown = [(self.shown_name(name), method.condition) for name, method in self.methods.items()]
        check_known(self.reference, dict(shown), "reference", "reference")
        if len(set(self.folds)) < len(self.folds) or len(set(shown)) < len(shown):
            raise ConfigError("a fold, or a method's shown_as and condition, is there twice")
        fractions = self.fractions_shown
        if fractions != sorted(set(fractions)) or not all(0 < fraction <= 1 for fraction in fractions):
            raise ConfigError("fractions_shown must rise, each in (0, 1]", found=", ".join(f"{fraction:g}" for fraction in fractions))
        self.waves()

    def shown_name(self, name: str) -> str:
        """Name of an entry of `methods` in the summary."""
        return self.methods[name].shown_as or name

    def with_sources(self, names: Sequence[str]) -> list[str]:
        """Methods with those that they need (teachers, what they compress), and those that these need, in the order of the study."""
        wanted: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            left += [source for source in self.methods[name].sources if source not in wanted]
            wanted.add(name)
        return [name for name in self.methods if name in wanted]

    def waves(self) -> list[list[str]]:
        """Methods in the order in which they can be trained: each after that which it needs. Raises ConfigError for a circle."""
        left, order = dict(self.methods), []
        while left:
            ready = [name for name, method in left.items() if not any(source in left for source in method.sources)]
            if not ready:
                raise ConfigError(f"methods need each other in a circle: {', '.join(left)}")
            order.append(ready)
            left = {name: method for name, method in left.items() if name not in ready}
        return order


def cell_config(study: "ClipStudy", cell: CellKey, phase: Phase, chosen: Chosen, runs: Path) -> RunConfig:
    """The run configuration of a cell: base, then the study's, the method's and the trial's settings, then overrides.

    Where the cell is no trial, the settings are those chosen for its fold. That of a method which compresses a run is that run's, and of
    runs that answer together that of the first.
    """
    spec = study.spec
    method = spec.methods[cell.method]
    sources = source_cells(study, cell, phase, chosen)
    if method.compresses is not None or method.mean_of:
        return cell_config(study, sources[0], phase, chosen, runs)
    settings = merge(merge(merge({}, spec.settings), method.settings), settings_of_trial(study, cell, chosen))
    folder = runs / spec.study / phase
    runs_of = [str(folder / str(source)) for source in sources]
    begun, teachers = (runs_of[-1:], runs_of[:-1]) if method.starts_from is not None else ([], runs_of)
    settings |= {"teacher": "of the cell" if teachers else None, "teacher_settings": None} | ({"init": "of the cell"} if begun else {})
    if phase == "tune":
        settings = merge(settings, {"data.validation_fraction": spec.tuning.validation_fraction})
    like = _config_of_cells(study.base, study.base.stat().st_mtime_ns, json.dumps(settings, sort_keys=True), study.overrides)
    split_seed = cell.seed if spec.labels_by_seed else like.data.split_seed
    data = dataclasses.replace(like.data, split=cell.place, split_seed=split_seed)
    train = dataclasses.replace(like.train, seed=cell.seed)
    own: dict[str, Any] = {"name": str(cell), "runs": str(folder), "teacher": next(iter(teachers), None), "more_teachers": teachers[1:]}
    own |= {"init": begun[0]} if begun else {}
    return with_places_of(like, dataclasses.replace(like, data=data, train=train, **own))


@functools.lru_cache(maxsize=256)
def _config_of_cells(base: Path, changed_ns: int, settings: str, overrides: tuple[str, ...]) -> RunConfig:  # noqa: ARG001  # another content is another call
    """The configuration that the cells of a method share; typing one takes a tenth of a second, and a page of results asks for hundreds."""
    return load_config(base, settings=json.loads(settings), overrides=overrides)


def settings_of_trial(study: "ClipStudy", cell: CellKey, chosen: Chosen) -> Mapping[str, Any]:
    """The settings of the trial that a cell is, else those chosen for its fold."""
    method = study.spec.methods[cell.method]
    return method.trials[cell.trial] if cell.trial >= 0 else chosen.get(method.tuned_as or cell.method, {}).get(cell.place, {})


def source_cells(study: "ClipStudy", cell: CellKey, phase: Phase, chosen: Chosen) -> list[CellKey]:
    """The cells whose runs teach this one, are compressed by it, answer together in it or give its initial weights (the last): of the same
    seed and fold, in tuning the trial chosen for this fold.
    """
    found = []
    for source in study.spec.methods[cell.method].sources:
        for name in study.spec.methods[source].mean_of or [source]:
            trials = study.spec.methods[name].trials
            number = trials.index(dict(chosen[name][cell.place])) if phase == "tune" and trials else -1
            found.append(CellKey(name, number, cell.seed, cell.place))
    return found


def check_settings(study: "ClipStudy") -> None:
    """Build the configuration of every method and trial once, so that a wrong setting is found before anything is trained.

    Raises ConfigError as `load_config` does, with the method (and trial) that has the setting.
    """
    fold = study.spec.folds[0]
    first = {name: {fold: method.trials[0]} for name, method in study.spec.methods.items() if method.trials}
    for name, method in study.spec.methods.items():
        for trial in range(len(method.trials)) if method.trials else [-1]:
            try:
                cell = CellKey(name, trial, study.spec.seeds[0], fold)
                config = cell_config(study, cell, "tune", first, Path("runs"))
                check_solvable(config)
                _check_fractions(study.spec.fractions_shown, config)
                _check_steps(study, cell, config, first)
            except ConfigError as error:
                where = f"methods.{name}" + (f".trials[{trial}]" if trial >= 0 else "")
                raise error.with_lines(study=f"{study.path}: {where}, or settings over all methods") from error


def _check_fractions(shown: Sequence[float], config: RunConfig) -> None:
    """Raise ConfigError unless the fractions shown are those that a method is judged at between the first and the last of them."""
    judged = config.judged_fractions
    if shown and judged and [fraction for fraction in judged if shown[0] <= fraction <= shown[-1]] != list(shown):
        raise ConfigError(
            "fractions_shown are not the observed fractions between the first and the last of them",
            judged_at=", ".join(f"{fraction:g}" for fraction in judged),
        )


def _check_steps(study: "ClipStudy", cell: CellKey, config: RunConfig, chosen: Chosen) -> None:
    """Raise ConfigError for steps that cannot be, or settings of their repairs that no run of this configuration has."""
    method = study.spec.methods[cell.method]
    if method.compresses is None:
        return
    repairs = merge(as_dict(config), merge(merge({}, method.settings), settings_of_trial(study, cell, chosen)))
    for step in parse_steps(method.steps, f"{study.path}: methods.{cell.method}") if method.steps else ():
        if isinstance(step.settings, RepairConfig):
            load_config(settings=repaired_settings(repairs, step.settings.settings, original="runs/original"))
