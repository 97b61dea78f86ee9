"""Studies of classifiers and of anticipation: what a cell is, how it is trained and judged, and what its numbers depend on."""

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vidkd.base.errors import ConfigError
from vidkd.base.files import near_files, sha256
from vidkd.base.settings import as_dict, flatten, load_settings, place_of
from vidkd.base.yaml_files import merge
from vidkd.bench.clip_spec import DECIDED, StudySpec, cell_config, settings_of_trial, source_cells
from vidkd.bench.clip_summary import clip_scores, percents_of, summarise
from vidkd.bench.localisation import measure_pointing
from vidkd.bench.study import CellKey, Chosen, Phase, Places, Study
from vidkd.bench.summary import ACCURACY, mean_name
from vidkd.compress.classifier import ClassifierSubject
from vidkd.compress.recipe import Recipe, parse_steps
from vidkd.compress.steps import run_recipe
from vidkd.data.manifest import Manifest, manifest_identity
from vidkd.engine.checkpoint import is_finished
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.devices import pick_device
from vidkd.engine.evaluate import Judgement, judge, mean_judgement
from vidkd.engine.fit import fit
from vidkd.engine.run_folder import settings_that_count
from vidkd.engine.setup import evaluation_set
from vidkd.models.saved import load_classifier
from vidkd.models.weights import PRETRAINED, published_file

log = logging.getLogger(__name__)

COSTS = ("macs", "bytes", "packed")
"""Costs among the metrics of a compressed cell."""


@dataclass(frozen=True)
class ClipStudy(Study):
    """Methods x seeds x folds of classifiers."""

    spec: StudySpec

    @property
    def base(self) -> Path:
        """The run configuration that all methods start from."""
        return (self.path.parent / self.spec.base).resolve()

    @property
    def choices(self) -> Mapping[str, Sequence[str]]:
        """Each fold chooses by its own cells."""
        return {fold: [fold] for fold in self.spec.folds}

    @property
    def metric(self) -> str:
        """Top-1, or its mean over the observed fractions that the study shows."""
        return mean_name(self.spec.fractions_shown) if self.spec.fractions_shown else ACCURACY

    def trial_waves(self) -> list[list[CellKey]]:
        """As `Study`; of teachers without trials one cell for each seed and fold."""
        needed = self.spec.with_sources([name for name, method in self.spec.methods.items() if method.trials])
        return [
            [
                CellKey(name, number, seed, fold)
                for name in wave
                if name in needed
                for number in (range(len(self.spec.methods[name].trials)) if self.spec.methods[name].trials else [-1])
                for seed in self.spec.tuning.seeds
                for fold in self.spec.folds
            ]
            for wave in self.spec.waves()
        ]

    def test_waves(self, methods: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> list[list[CellKey]]:
        """As `Study`; by default the shortlist. Teachers are always among them."""
        wanted = self.spec.with_sources(methods or self.spec.shortlist or list(self.spec.methods))
        return [
            [
                CellKey(name, -1, seed, fold)
                for seed in seeds or self.spec.seeds
                for fold in self.spec.folds
                for name in wave
                if name in wanted
            ]
            for wave in self.spec.waves()
        ]

    def sources(self, key: CellKey, phase: Phase, chosen: Chosen) -> list[CellKey]:
        """The cells that `source_cells` names; of a run that is compressed its teachers too, for repairs."""
        found = source_cells(self, key, phase, chosen)
        compressed = self.spec.methods[key.method].compresses is not None
        return [*(self.sources(found[0], phase, chosen) if compressed else []), *found]

    def has_run(self, key: CellKey, phase: Phase, places: Places) -> bool:
        """Whether its run is finished."""
        return is_finished(self._run(key, phase, places))

    def settings(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen) -> dict[str, Any]:
        """Of the run, without where it ran and where its files are; of a compression also the steps and the settings of the repairs."""
        config = cell_config(self, key, phase, chosen, places.runs)
        method = self.spec.methods[key.method]
        found = {
            **identity(config),
            "init": method.starts_from or config.init,
            "teacher": method.compresses or method.teacher,
            "subset": self._subset(phase),
        }
        if method.mean_of:
            return {**found, "mean_of": list(method.mean_of)}
        if method.compresses is None:
            return found
        repairs = flatten(merge(merge({}, method.settings), settings_of_trial(self, key, chosen)), "compress.settings.")
        return {**found, "compress.steps": json.loads(json.dumps(method.steps)), **repairs}

    def defaults(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those of the task."""
        return _defaults(settings["task"])

    def inputs(self, key: CellKey, places: Places) -> dict[str, str]:
        """The hash of the manifest, and of the published weights in a file, where they are on this machine."""
        config = cell_config(self, key, "test", {}, places.runs)
        data, model = config.data, config.model
        path = Path(data.manifest) if data.manifest else Path(data.root) / "manifest.jsonl"
        found = _manifest(path, data.root or None, path.stat().st_mtime_ns) if path.is_file() else {}
        file = published_file(model.backbone) if model.weights == PRETRAINED else None
        return {**found, **({} if file is None else {"weights": f"{model.backbone} {_hash(file, file.stat().st_mtime_ns)}"})}

    def _run(self, key: CellKey, phase: Phase, places: Places) -> Path:
        return places.runs / self.name / phase / str(key)

    def run(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen, *, quiet: bool) -> dict[str, Any]:
        """Train a cell's run (or resume it), or compress the run of another, and judge it; or judge the runs of others together."""
        method = self.spec.methods[key.method]
        if method.mean_of:
            found = self._together(key, phase, places, chosen)
        else:
            found = (self._trained if method.compresses is None else self._compressed)(key, phase, places, chosen, quiet)
        return {**found, "subset": self._subset(phase)}

    def _together(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen) -> dict[str, Any]:
        """Judge what the runs of the method's `mean_of` say by the mean of their class probabilities."""
        judgements: list[Judgement] = []
        parameters = 0
        for source in source_cells(self, key, phase, chosen):
            config, saved = cell_config(self, source, phase, chosen, places.runs), load_classifier(self._run(source, phase, places))
            device = pick_device(config.train.device, flag="--train.device")
            clips, model = read_clips_of_run(config), saved.model.to(device)
            judgements.append(judge(model, clips, self._subset(phase), config.data, saved.classes, device=device))
            parameters += sum(parameter.numel() for parameter in model.parameters())
        found = mean_judgement(judgements)
        return {
            "steps": 0,
            "parameters": parameters,
            "train_seconds": 0.0,
            "judged": found.counts(),
            "metrics": {name: round(value, 6) for name, value in found.metrics().items()},
            "predictions": found.as_rows(),
        }

    def _trained(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen, quiet: bool) -> dict[str, Any]:
        config = cell_config(self, key, phase, chosen, places.runs)
        clips = read_clips_of_run(config)
        result = fit(config, quiet=quiet)
        saved = load_classifier(result.folder)
        device, subset = pick_device(config.train.device, flag="--train.device"), self._subset(phase)
        model = saved.model.to(device)
        judgement = judge(model, clips, subset, config.data, saved.classes, device=device)
        metrics, rows = judgement.metrics(), judgement.as_rows()
        if phase == "test" and "pointing" in self.spec.measures and model.config.attention.pooling != "mean":
            judged = clips.without(subset, judgement.unobservable)
            pointing = measure_pointing(model, evaluation_set(judged, subset, config.data, [saved.view]), device)
            metrics |= {name: float(np.mean(values)) for name, values in vars(pointing).items()}
            rows |= {name: [round(value, 5) for value in values] for name, values in vars(pointing).items()}
        return {
            "steps": result.steps,
            "parameters": result.parameters,
            "train_seconds": round(result.seconds, 2),
            "judged": judgement.counts(),
            "metrics": {name: round(value, 6) for name, value in metrics.items()},
            "predictions": rows,
        }

    def _compressed(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen, quiet: bool) -> dict[str, Any]:
        """Apply the method's steps to the run of the same seed and fold; what the last of them reached, and the training of all repairs.

        What the steps draw (filters at random, clips for ranges, batches of repairs) is drawn by the cell's seed, whatever the steps say.
        Finished steps are found in the folder of the cell. Raises ConfigError as `parse_steps` does, and what the steps raise.
        """
        method = self.spec.methods[key.method]
        recipe = Recipe(
            student=str(self._run(source_cells(self, key, phase, chosen)[0], phase, places)),
            steps=parse_steps(method.steps, f"{self.path}: methods.{key.method}") if method.steps else (),
            name=str(key),
            runs=str(places.runs / self.name / phase),
            subset=self._subset(phase),
            settings=merge(merge({}, method.settings), settings_of_trial(self, key, chosen)),
        ).seeded(key.seed)
        outcomes = list(run_recipe(recipe, ClassifierSubject(recipe, self.overrides, quiet=quiet)))
        last, notes = outcomes[-1].content, [outcome.content["notes"] for outcome in outcomes]
        return {
            "steps": sum(note.get("steps", 0) for note in notes),
            "parameters": last["parameters"],
            "train_seconds": round(sum(note.get("train_seconds", 0.0) for note in notes), 2),
            "judged": last["counts"],
            "metrics": {**last["metrics"], **{name: last[name] for name in COSTS if name in last}},
            "predictions": last["predictions"],
        }

    def _subset(self, phase: Phase) -> Literal["val", "test"]:
        return "val" if phase == "tune" else self.spec.subset

    def score(self, cell: Mapping[str, Any]) -> dict[str, float]:
        """As `Study`. A method that sees whole clips has no observed fractions: its score is plain top-1."""
        observed = self.metric != ACCURACY and percents_of(cell["predictions"])
        score = float(clip_scores(cell["predictions"], self.metric).mean()) if observed else cell["metrics"][ACCURACY]
        return {"score": score, "nll": cell["metrics"]["nll"]}

    def line(self, cell: Mapping[str, Any]) -> str:
        """As `Study`."""
        return f"top-1 {cell['metrics']['top1']:.3f}  {cell['train_seconds']:.0f} s"

    def summarise(self, cells: Mapping[str, Mapping[str, Any]], claims: Mapping[str, str]) -> dict[str, Any]:
        """As `Study`."""
        return summarise(self, cells, claims)


def identity(config: RunConfig) -> dict[str, Any]:
    """The settings that a cell's numbers depend on, flat; where it ran and where its files are is left out.

    Teacher and initial weights are kept apart: the first is a cell of its own.
    """
    return {key: value for key, value in settings_that_count(as_dict(config)).items() if not key.startswith(("teacher", "more_teachers"))}


@functools.cache
def _defaults(task: str) -> Mapping[str, Any]:
    return identity(load_config(settings={"task": task}))


@functools.lru_cache(maxsize=4)
def _manifest(path: Path, root: str | None, _changed_ns: int) -> dict[str, str]:
    found = manifest_identity(Manifest.read(path, root))
    return {"manifest": f"{found['name']} {found['sha256']}"}


@functools.lru_cache(maxsize=8)
def _hash(file: Path, _changed_ns: int) -> str:
    return sha256(file)


def read_clip_study(path: Path, overrides: Sequence[str] = ()) -> ClipStudy:
    """Read a study. Raises ConfigError with file and key for anything unknown or of a wrong type, or an override that the study decides."""
    study = ClipStudy(path, tuple(overrides), load_settings(StudySpec, path))
    decided = {**DECIDED, **({"data.split_seed": "`labels_by_seed` in the study"} if study.spec.labels_by_seed else {})}
    for word in overrides:
        key = word.removeprefix("--").split("=")[0]
        if word.startswith("--") and key in decided:
            raise ConfigError(f"'--{key}' is decided by the study for each of its cells", hint=decided[key])
    if not study.base.is_file():
        lines = near_files(study.base, (".yaml", ".yml"))
        raise ConfigError(f"config not found: {study.base}", where=place_of(study.spec, "base"), **lines)
    return study
