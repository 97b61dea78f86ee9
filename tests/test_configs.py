"""Every shipped configuration begins with the command that runs it, is parsed, and trains teacher and student for two steps."""

import functools
import itertools
import json
import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import layout_trees
import pytest
import torch
import yaml

from vidkd.base.settings import as_dict, merge
from vidkd.bench.clip_spec import MethodSpec, StudySpec, cell_config, check_settings
from vidkd.bench.clip_study import read_clip_study as read_study
from vidkd.bench.speed.config import read_benchmark
from vidkd.bench.study import CellKey
from vidkd.cli.main import run_verb
from vidkd.compress.distil import learning_of
from vidkd.compress.recipe import DistilConfig, ExportConfig, RefitConfig, RepairConfig, Step, parse_steps, read_recipe
from vidkd.data.layouts import LAYOUTS
from vidkd.data.manifest import Manifest
from vidkd.detection.config import load_detector_config
from vidkd.engine.config import RunConfig, load_config, teacher_config
from vidkd.engine.fit import fit
from vidkd.models import build_backbone
from vidkd.models.saved import load_classifier

REPOSITORY = Path(__file__).parents[1]
PROBE = REPOSITORY / "configs" / "probe" / "folder.yaml"
CONFIGS = sorted(path for task in ("attention", "anticipation") for path in (REPOSITORY / "configs" / task).glob("*.yaml"))
PRETRAINED = sorted((REPOSITORY / "configs" / "pretrained").glob("*.yaml"))
STUDIES = sorted((REPOSITORY / "configs" / "studies").glob("*.yaml"))
RECIPES = sorted((REPOSITORY / "configs" / "compress").glob("*.yaml"))
BENCHMARKS = sorted((REPOSITORY / "configs" / "benchmark").glob("*.yaml"))
DETECTOR_RECIPES = sorted((REPOSITORY / "configs" / "compress" / "detectors").glob("*.yaml"))
QUICK_STUDIES = ("demo", "demo_anticipation", "compress_repair", "weizmann")
"""Studies of which `make test` asks every cell: of each kind one, and that of several folds."""
shipped = functools.cache(load_config)
shipped_study = functools.cache(read_study)

TREES: dict[str, Callable[[Path], str]] = {name: getattr(layout_trees, name) for name in LAYOUTS if hasattr(layout_trees, name)}
"""The data sets of which `layout_trees` makes a small one."""
NAMED = {path: f"{path.parent.name}/{path.stem}" for path in CONFIGS}
GENERATED = {
    "attention/motion_shapes": "--clips-per-class-train 2 --clips-per-class-test 2 --frames 10 --size 64 --classes Rising,Falling",
    "anticipation/motion_shapes": "--variant cued --files-train 6 --files-test 6 --episodes 1 --size 80",
}


@dataclass(frozen=True)
class Method:
    """What the configurations of a method have in common."""

    folder: str
    teacher: str
    teacher_view: str
    pooling: str


METHODS = {
    "attention_distillation": Method("attention", "flow", "flow", "probabilistic"),
    "anticipation": Method("anticipation", "recognition", "rgb", "mean"),
}
"""Of the methods with a folder of their own; the configurations of others meet what holds for all."""
Roots = Callable[[Path], Path]


def data_of(path: Path) -> str:
    """The data set of a configuration, with which its name begins; one that is generated has the folder before it."""
    fits = [name for name in (*TREES, "motion_shapes") if f"{path.stem}_".startswith(f"{name}_")]
    assert fits, f"no data set: name {path} after a function of tests/layout_trees.py, or add one"
    name = max(fits, key=len)
    return name if name in TREES else f"{path.parent.name}/{name}"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    """A small data set for a configuration, laid out as its own one and prepared by the verb that prepares that; made once."""
    made: dict[str, Path] = {}

    def root_of(config: Path) -> Path:
        name = data_of(config)
        if name not in made:
            made[name] = root = tmp_path_factory.mktemp(name.replace("/", "_")) / "root"
            if name in GENERATED:
                assert run_verb("make_data", ["--out", str(root), "--workers", "1", *GENERATED[name].split()]) == 0
            else:
                assert run_verb("prepare_data", [TREES[name](root), "--data.root", str(root)]) == 0
        return made[name]

    return root_of


def speed(root: Path, runs: Path, **over: Any) -> dict[str, Any]:
    """Settings that make a run short and small, and put it somewhere else; what is trained and how stays."""
    return {
        "runs": str(runs),
        "data.root": str(root),
        "data.window.frames": 8,
        "data.transform.short_side": 36,
        "data.transform.crop": 32,
        "data.batch_size": 2,
        "data.workers": 0,
        "data.cache.folder": str(runs / "cache"),
        "model.weights": None,
        "train.steps": 2,
        "train.precision": "32-true",
        "train.device": "cpu",
        "train.threads": 1,
        **over,
    }


def trains(path: Path, settings: dict[str, Any]) -> None:
    """Teacher and student of a configuration for two steps, and what they leave."""
    given = {"teacher": f"{settings['runs']}/teacher"} if shipped(path).teacher else {}
    config = load_config(path, settings={**given, **settings})
    result = fit(config, quiet=True)
    assert (result.steps, result.folder) == (2, Path(config.runs) / str(config.name))
    classes = Manifest.read(Path(config.data.root) / "manifest.jsonl").classes
    teacher, terms = teacher_config(config), []
    for folder, own in ((result.folder, config), *([(Path(str(config.teacher)), teacher)] if teacher else [])):
        saved = load_classifier(folder)
        assert (saved.view, saved.classes, saved.model.config.backbone) == (own.view, classes, config.model.backbone)
        assert yaml.safe_load((folder / "config.yaml").read_text())["task"] == own.task
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        row = next(row for row in rows if row["split"] == "train" and row["step"] == 2)
        assert math.isfinite(row["loss"])
        terms.append(set(row))
    assert config.task not in METHODS or terms[0] > terms[1], "the student's loss has a term that the teacher's has not"


def test_there_is_a_data_set_for_every_configuration_and_a_configuration_for_every_data_set() -> None:
    assert {data_of(path) for path in CONFIGS} == {*TREES, *GENERATED}


def test_runs_of_different_configurations_have_different_names_and_a_shared_teacher_is_the_same() -> None:
    configs = [shipped(path) for path in CONFIGS]
    assert len({config.name for config in configs}) == len(configs)
    teachers = {config.teacher: teacher_config(config) for config in configs}
    assert all(teacher_config(config) == teachers[config.teacher] for config in configs)


@pytest.mark.parametrize("path", CONFIGS, ids=NAMED.get)
def test_two_steps(path: Path, roots: Roots, tmp_path: Path) -> None:
    """With the small backbone where the configuration's own one takes long; the slow test has that."""
    big = {"model.backbone": "tiny3d"} if shipped(path).model.backbone != "tiny3d" else {}
    trains(path, speed(roots(path), tmp_path / "runs", **big))


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in CONFIGS if shipped(path).model.backbone != "tiny3d"], ids=NAMED.get)
def test_two_steps_of_the_own_backbone(path: Path, roots: Roots, tmp_path: Path) -> None:
    trains(path, speed(roots(path), tmp_path / "runs"))


@pytest.mark.parametrize("path", CONFIGS, ids=NAMED.get)
def test_the_first_line_is_the_command(path: Path) -> None:
    """What it says is this file, and gives the configuration that the name promises."""
    command = path.read_text(encoding="utf-8").splitlines()[0]
    folder = path.parent.name
    assert command == f"# vidkd train --config configs/{folder}/{path.name} --data.root DIR"
    config = load_config(path, overrides=shlex.split(command)[-2:])
    assert config.data.root == "DIR"
    assert (config.data.observe.protocol == "whole") == (folder == "attention")
    method = METHODS.get(config.task)
    if method is None:
        return
    assert (config.name, config.teacher) == (f"{path.stem}-{folder}", f"runs/{path.stem}-{method.teacher}")
    assert (folder, config.view, config.model.attention.pooling) == (method.folder, "rgb", method.pooling)
    teacher = teacher_config(config)
    assert teacher is not None
    assert (teacher.task, teacher.view, teacher.model) == ("supervised", method.teacher_view, config.model)
    assert teacher.data.observe.protocol == "whole"


@pytest.mark.parametrize("path", CONFIGS, ids=NAMED.get)
def test_the_split_is_one_of_the_data_set(path: Path, roots: Roots) -> None:
    manifest = Manifest.read(roots(path) / "manifest.jsonl")
    config = shipped(path)
    assert config.data.split in manifest.splits
    assert manifest.select(config.data.split, "train")
    assert manifest.horizontal_flip == (not data_of(path).endswith(("something", "motion_shapes"))), "labels that name a direction"


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=() if path.stem in QUICK_STUDIES else pytest.mark.slow, id=path.stem) for path in STUDIES]
)
def test_every_cell_of_a_study_has_a_configuration(path: Path, roots: Roots, tmp_path: Path) -> None:
    """Every method and trial; every seed and fold of one method (those of the others are put in alike); folds that the data set has."""
    study = shipped_study(path)
    spec = study.spec
    check_settings(study)
    chosen = {name: dict.fromkeys(spec.folds, method.trials[0]) for name, method in spec.methods.items() if method.trials}
    for name in itertools.chain(*spec.waves()):
        config = cell_config(study, CellKey(name, -1, spec.seeds[0], spec.folds[0]), "test", chosen, tmp_path)
        assert (config.teacher is not None) == (spec.methods[spec.methods[name].compresses or name].teacher is not None)
    entry = next(name for name in spec.methods if spec.shown_name(name) == spec.reference)
    found = [cell_config(study, CellKey(entry, -1, seed, fold), "test", chosen, tmp_path) for seed in spec.seeds for fold in spec.folds]
    assert len({config.name for config in found}) == len(spec.seeds) * len(spec.folds)
    manifest = Manifest.read(roots(study.base) / "manifest.jsonl")
    assert set(spec.folds) <= set(manifest.splits)
    assert all(manifest.select(fold, spec.subset) for fold in spec.folds)


def test_a_cell_of_the_study_of_weizmann_is_trained_as_the_configuration_says() -> None:
    """Methods differ from the base in what the study says and in nothing else."""
    study = shipped_study(REPOSITORY / "configs" / "studies" / "weizmann.yaml")
    base = shipped(study.base)
    config = cell_config(study, CellKey("attention", -1, 3, "fold2"), "test", {}, Path("runs"))
    same: tuple[Callable[[RunConfig], Any], ...] = (
        lambda c: c.task,
        lambda c: c.view,
        lambda c: c.model,
        lambda c: c.optim,
        lambda c: c.data.window,
        lambda c: c.data.transform,
        lambda c: c.train.epochs,
        lambda c: c.method,
    )
    assert [get(config) for get in same] == [get(base) for get in same]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_begins_with_the_command(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert re.search(rf"vidkd study --config configs/studies/{path.name}\b.* --data\.root \S+", first)
    assert shipped_study(path).spec.study == path.stem


CONTROLS = ("none_unsmoothed", "causal_100", "causal_25", "causal_logits_100", "causal_logits_25")
"""Methods without trials of their own: they have the settings of others, and their label says so."""
BASELINES = ("finetuned",)
"""What a user would do instead, in studies of networks from random weights: at most as many trials as the methods that it is beside."""
SOLVED = ("linear_probe", "nearest_neighbour", "distilled_probe")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_methods_are_tuned_alike(path: Path) -> None:
    """As many different trials for each method, on seeds that the test does not use; the claim's candidates are compared on them."""
    spec: StudySpec = shipped_study(path).spec
    if not any(method.trials for method in spec.methods.values()):
        pytest.skip("this study tunes nothing")
    solved = {name for name, method in spec.methods.items() if method.settings.get("task", spec.settings.get("task")) in SOLVED}
    if any(spec.methods[name].claim for name in solved):
        pytest.skip("what a solved head chooses, it chooses among the same strengths by cross-validation of its training clips")
    compresses = any(method.compresses for method in spec.methods.values())
    own = {
        name: method
        for name, method in spec.methods.items()
        if method.tuned_as is None and _is_tuned(method, compresses) and name not in solved
    }
    teach = {source for method in spec.methods.values() for source in (method.teacher, *method.mean_of)}
    untuned = {name for name in teach if name is not None and not spec.methods[name].trials}  # no rivals
    own = {
        name: method for name, method in own.items() if name not in (*CONTROLS, *BASELINES) and name not in untuned and not method.mean_of
    }
    (trials,) = {len(method.trials) for method in own.values()}
    assert trials >= 2
    for name, method in own.items():
        assert len({json.dumps(trial, sort_keys=True) for trial in method.trials}) == trials, name
    assert not set(spec.tuning.seeds) & set(spec.seeds)
    assert any(method.claim for method in own.values()) != compresses, "what compression costs is no claim of one method"
    assert not any(method.claim for name, method in spec.methods.items() if spec.shown_name(name) == spec.reference)


def _is_tuned(method: MethodSpec, compresses: bool) -> bool:
    """Whether a method has something to tune; where runs are compressed these are the repairs."""
    return any("repair" in step for step in method.steps) if compresses else True


@pytest.mark.parametrize("path", DETECTOR_RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_a_published_detector_is_judged_on_other_footage_than_it_learns_from(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# vidkd compress --config configs/compress/detectors/{path.name} --data.root DIR")
    recipe = read_recipe(path)
    assert recipe.weights
    assert recipe.names
    assert recipe.footage
    config = load_detector_config(settings=recipe.settings)
    assert not any(name.startswith(f"{config.data.root}/") for name in recipe.footage)
    learns = [step.settings for step in recipe.steps if isinstance(step.settings, DistilConfig)]
    assert all(learning_of(settings).update.trains == "all" for settings in learns)
    fits = any(isinstance(step.settings, RefitConfig) for step in recipe.steps)
    assert ("--seed" in first) == (bool(learns) or fits), "what draws nothing is run once"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_begins_with_its_command_and_names_a_student_that_a_configuration_trains(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# vidkd compress --config configs/compress/{path.name} --data.root DIR")
    recipe = read_recipe(path)
    made = {Path(config.runs) / str(config.name): config for config in map(shipped, (*CONFIGS, *PRETRAINED))}
    student = as_dict(made[Path(recipe.student)])
    for step in recipe.steps:
        if isinstance(step.settings, RepairConfig):
            given = {key: value for key, value in merge({}, step.settings.settings).items() if value != "original"}
            other = given.get("task", student["task"]) != student["task"]
            load_config(settings=merge({key: value for key, value in student.items() if not (other and key == "method")}, given))


def of_steps(folder: Path, steps: Sequence[Step], *, darknet: bool = False) -> set[str]:
    """What the steps of a recipe leave in its folder that a benchmark may name: exported files, runs, the cfg of a detector."""
    found = set()
    for step in steps:
        if isinstance(step.settings, ExportConfig):
            found |= {str(folder / step.name / f"model.{form}") for form in step.settings.formats}
        elif isinstance(step.settings, RepairConfig):
            found.add(str(folder / step.name))
        elif darknet:
            found.add(str(folder / step.name / "student.cfg"))
    return found


@pytest.fixture(scope="module")
def left_by_everything() -> set[str]:
    """Runs and files that the shipped configurations leave below `runs`, recipes of detectors with the seeds 0, 1 and 2."""
    configs = [shipped(path) for path in (*CONFIGS, *PRETRAINED)]
    found = {str(Path(config.runs) / str(config.name)) for config in configs} | {str(config.teacher) for config in configs}
    for path in (*RECIPES, *DETECTOR_RECIPES):
        for seed in (0, 1, 2) if "--seed" in path.read_text(encoding="utf-8").splitlines()[0] else (None,):
            recipe = read_recipe(path, seed=seed)
            found |= of_steps(recipe.folder, recipe.steps, darknet=path in DETECTOR_RECIPES)
    for path in STUDIES:
        spec = shipped_study(path).spec
        for name, seed, fold in itertools.product(spec.with_sources(spec.shortlist or list(spec.methods)), spec.seeds, spec.folds):
            folder, method = Path("runs") / spec.study / "test" / str(CellKey(name, -1, seed, fold)), spec.methods[name]
            found |= {str(folder)} if method.compresses is None else of_steps(folder, parse_steps(method.steps, str(path)))
    return found


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_names_what_the_other_configurations_leave(path: Path, left_by_everything: set[str]) -> None:
    models = read_benchmark(path).models
    named = {label: [model.what, model.ensemble_with, model.source] for label, model in models.items()}
    ours = [(label, name) for label, names in named.items() for name in names if name and name.startswith("runs/")]
    missing = [(label, name) for label, name in ours if name not in left_by_everything]
    assert not missing
    for label, model in models.items():
        if model.source is not None and model.source.startswith("runs/") and model.checkpoint is None:
            assert Path(model.source).parts[1] == Path(model.what).parts[1], f"{label}: of the same recipe and seed"


@pytest.mark.parametrize("task", ["linear_probe", "nearest_neighbour"])
def test_the_probe_is_solved_from_its_configuration(task: str, tiny_root: Path, tmp_path: Path) -> None:
    small = {"data.window.frames": 8, "data.transform": {"short_side": 36, "crop": 32}, "data.workers": 0, "train.device": "cpu"}
    published = load_config(PROBE, settings={"task": task})
    assert published.model.weights == "pretrained"
    weights = tmp_path / "tiny3d.pt"
    torch.save(build_backbone("tiny3d").state_dict(), weights)
    place = {"data.root": str(tiny_root), "runs": str(tmp_path), "model.backbone": "tiny3d", "model.weights": str(weights)}
    assert fit(load_config(PROBE, settings={"task": task, **small, **place}), quiet=True).steps == 1


@pytest.mark.parametrize("path", PRETRAINED, ids=lambda path: path.stem)
def test_what_begins_with_pretrained_weights_keeps_its_activations(path: Path) -> None:
    config = shipped(path)
    assert path.read_text(encoding="utf-8").startswith(f"# vidkd train --config configs/pretrained/{path.name} --data.root DIR\n")
    ending = path.stem.removeprefix("ucf101_4").replace("_", "-") or "-pretrained"
    assert (config.name, config.model.weights, config.model.freeze, config.data.features.views) == (
        f"ucf101_4{ending}",
        "pretrained",
        "all",
        1,
    )
