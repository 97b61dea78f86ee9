"""Recipes as they are done: every step judged and kept, the same after an interruption, refused where another recipe stands."""

import dataclasses
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from street_runs import street_config, write_streets

from vidkd.base.errors import CheckpointError, ConfigError, DataError
from vidkd.base.files import read_jsonl
from vidkd.compress.classifier import ClassifierSubject
from vidkd.compress.detector import DetectorSubject
from vidkd.compress.recipe import Recipe, parse_steps
from vidkd.compress.steps import Outcome, run_recipe
from vidkd.data.manifest import Manifest
from vidkd.detection.fit import fit_detector
from vidkd.engine import loop
from vidkd.engine.config import RunConfig
from vidkd.engine.evaluate import judge
from vidkd.engine.fit import fit
from vidkd.engine.loop import InterruptedRunError
from vidkd.models.saved import ExportedModule, checkpoint_in, load_classifier, save_classifier
from vidkd.runtime.opening import open_exported_classifier
from vidkd.tasks import TASKS
from vidkd.tasks.task import SolvedTask

WRITTEN: list[dict[str, Any]] = [
    {"prune": {"ratio": 0.4, "scope": "uniform", "criterion": "taylor"}},
    {"repair": {"task": "logits_kd", "teacher": "original", "train.steps": 2, "optim.lr": 0.01}},
    {"factorise": {"macs": 0.7}},
    {"quantise": {"clips": 6, "exclude": ["backbone.net.stem*"]}},
    {"export": {"formats": ["onnx", "xml"], "licence": "MIT"}},
]


def recipe_of(student: Path, runs: Path, written: list[dict[str, Any]], **more: Any) -> Recipe:
    return Recipe(student=str(student), steps=parse_steps(written, "r.yaml"), name="small", runs=str(runs), **more)


def do(recipe: Recipe) -> list[Outcome]:
    return list(run_recipe(recipe, ClassifierSubject(recipe)))


def numbers(outcome: Outcome) -> dict[str, Any]:
    """An outcome without what differs from run to run."""
    content = {key: value for key, value in outcome.content.items() if key not in ("seconds", "environment")}
    notes = {key: value for key, value in content["notes"].items() if key != "train_seconds"}
    return {**content, "notes": notes}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compressed")


@pytest.fixture(scope="module")
def outcomes(tiny_teacher: Path, runs: Path) -> list[Outcome]:
    return do(recipe_of(tiny_teacher, runs, WRITTEN))


def test_every_step_is_judged_and_smaller(outcomes: list[Outcome], tiny_teacher: Path) -> None:
    assert [outcome.name for outcome in outcomes] == ["0_original", "1_prune", "2_repair", "3_factorise", "4_quantise", "5_export"]
    original, pruned, repaired, factorised, integers, exported = (outcome.content for outcome in outcomes)
    assert pruned["parameters"] < 0.5 * original["parameters"]
    assert repaired["parameters"] == pruned["parameters"]
    assert factorised["macs"] < repaired["macs"] < original["macs"]
    assert integers["bytes"] < factorised["bytes"] / 2
    assert integers["metrics"] == exported["metrics"], "what ships is what was judged"
    assert original["parameters"] == sum(each.numel() for each in load_classifier(tiny_teacher).model.parameters())
    assert original["bytes"] == sum(
        each.numel() * each.element_size() for each in load_classifier(tiny_teacher).model.state_dict().values()
    )
    assert [each["original_bytes"] for each in (pruned, repaired, factorised)] == [original["bytes"]] * 3
    assert integers["original_bytes"] == exported["original_bytes"] > 0.9 * original["bytes"]
    for content in (outcome.content for outcome in outcomes):
        labels, predicted = content["predictions"]["label"], content["predictions"]["predicted"]
        assert len(labels) == 6
        right = sum(one == two for one, two in zip(labels, predicted, strict=True))
        assert content["metrics"]["top1"] == pytest.approx(right / 6, abs=1e-6)


def test_what_a_step_says_is_what_its_network_does(outcomes: list[Outcome], tiny_teacher: Path, runs: Path) -> None:
    recipe = recipe_of(tiny_teacher, runs, WRITTEN)
    subject = ClassifierSubject(recipe)
    repaired, exported = outcomes[2], outcomes[5]
    model = load_classifier(repaired.made.model)
    assert [plan["kind"] for plan in model.model.changes] == ["prune"]
    assert model.run["task"] == "logits_kd"
    assert model.run["teacher"] == str(tiny_teacher)
    found = judge(model.model, subject._clips, "test", subject.config.data, model.classes, device=torch.device("cpu"))
    assert found.as_rows() == repaired.content["predictions"]
    assert exported.made.file == runs / "small" / "5_export" / "model.onnx"
    in_float = outcomes[3].content["metrics"]["top1"]
    for suffix in ("onnx", "xml"):
        file = ExportedModule(open_exported_classifier(runs / "small" / "5_export" / f"model.{suffix}"))
        shipped = judge(file, subject._clips, "test", subject.config.data, model.classes, device=torch.device("cpu"))
        if suffix == "onnx":
            assert shipped.as_rows() == exported.content["predictions"], "the first file is the one that is judged"
        agree = [one == two for one, two in zip(shipped.as_rows()["predicted"], exported.content["predictions"]["predicted"], strict=True)]
        assert sum(agree) >= 5, "another runtime may round otherwise"
        assert exported.rows[f"{exported.name}.{suffix}"]["metrics"] == pytest.approx(shipped.metrics(), abs=1e-6)
        card = (runs / "small" / "5_export" / f"model.{suffix}.md").read_text(encoding="utf-8")
        assert f"the network in float: top1 {in_float:.3f} (no interval), 6 clips of 'test' |" in card
        by = {"onnx": "ONNX Runtime", "xml": "OpenVINO"}[suffix]
        assert f"| Judged, this file | top1 {shipped.metrics()['top1']:.3f} (no interval), 6 clips of 'test', by {by} |" in card
    assert exported.content["notes"]["integer_convolutions"] == len(exported.content["notes"]["layers"]) - 1, "one is linear"
    assert list(exported.content["notes"]["left"].values()) == ["exclude"] * len(exported.content["notes"]["left"])


def test_interrupted_anywhere_it_ends_the_same(
    outcomes: list[Outcome], tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tiny_teacher, tmp_path, WRITTEN[:3])
    kept: list[Outcome] = []
    for name in ("change", "repair", "figures"):
        with monkeypatch.context() as patch:
            patch.setattr(ClassifierSubject, name, _stopped)
            with pytest.raises(KeyboardInterrupt):
                kept += run_recipe(recipe, ClassifierSubject(recipe))
    assert not (tmp_path / "small" / "3_factorise" / "outcome.json").exists()
    found = do(recipe)
    assert [numbers(outcome) for outcome in found] == [numbers(outcome) for outcome in outcomes[:4]]


def _stopped(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_another_recipe_in_the_same_folder_is_refused(outcomes: list[Outcome], tiny_teacher: Path, runs: Path) -> None:
    other = [{"prune": {"ratio": 0.5, "scope": "uniform", "criterion": "taylor"}}, *WRITTEN[1:]]
    with pytest.raises(ConfigError, match="holds a step of another recipe, student, teacher, data set or settings") as text:
        do(recipe_of(tiny_teacher, runs, other))
    assert "1_prune" in str(text.value)
    assert re.search(r"ratio +: 0\.4 there, 0\.5 now", str(text.value))
    with pytest.raises(ConfigError, match="0_original holds a step of another recipe") as text:
        do(recipe_of(tiny_teacher, runs, WRITTEN, subset="val"))
    assert re.search(r"subset +: test there, val now", str(text.value))
    with pytest.raises(ConfigError, match="0_original holds a step of another recipe"):
        do(recipe_of(outcomes[2].made.model, runs, WRITTEN))


def test_a_step_is_known_by_the_content_of_its_own_teacher(tiny_teacher: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, teacher)
    written = [{"prune": {"ratio": 0.3}}, {"repair": {"task": "logits_kd", "teacher": str(teacher), "train.steps": 1}}]
    do(recipe_of(tiny_teacher, tmp_path, written))
    assert all(outcome.found_finished for outcome in do(recipe_of(tiny_teacher, tmp_path, written)))
    saved = load_classifier(teacher)
    with torch.no_grad():
        saved.model.fc.weight.add_(1)
    save_classifier(checkpoint_in(teacher), saved)
    with pytest.raises(ConfigError, match="2_repair holds a step of another recipe, student, teacher"):
        do(recipe_of(tiny_teacher, tmp_path, written))


def test_a_repair_that_was_stopped_in_its_middle_ends_the_same(tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = [{"repair": {"train.steps": 4, "optim.lr": 0.01}}]
    whole = do(recipe_of(tiny_teacher, tmp_path / "whole", written))[1]
    recipe = recipe_of(tiny_teacher, tmp_path / "stopped", written)
    take_step, taken = loop.Loop._step, []

    def step_twice(training: Any, batches: Any) -> dict[str, float]:
        taken.append(1)
        if len(taken) == 2:
            training.interrupt.asked = True
        return take_step(training, batches)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_step", step_twice)
        with pytest.raises(InterruptedRunError):
            do(recipe)
    resumed = do(recipe)[1]
    assert numbers(resumed)["predictions"] == numbers(whole)["predictions"]
    here, there = (load_classifier(each.made.model).model.state_dict() for each in (resumed, whole))
    assert all(torch.equal(value, there[name]) for name, value in here.items())


def test_every_file_of_a_finished_step_is_missed(outcomes: list[Outcome], tiny_teacher: Path, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "small", tmp_path / "small")
    recipe, folder = recipe_of(tiny_teacher, tmp_path, WRITTEN), tmp_path / "small"
    assert [outcome.made for outcome in do(recipe_of(tiny_teacher, runs, WRITTEN))] == [outcome.made for outcome in outcomes]
    assert do(recipe)[5].made.further == (folder / "5_export" / "model.xml",)
    names = ["model.onnx", "model.xml", "model.bin", "model.onnx.md", "model.xml.md"]
    for path in (folder / "1_prune" / "model.pt", checkpoint_in(folder / "2_repair"), *(folder / "5_export" / name for name in names)):
        aside = path.rename(path.with_name("aside"))
        with pytest.raises(DataError, match=f"was finished, and what it made is gone: .*{re.escape(path.name)}"):
            do(recipe)
        aside.rename(path)
    assert all(outcome.found_finished for outcome in do(recipe))


def test_a_repair_takes_the_teacher_as_it_is(tiny_teacher: Path, tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny_config(
        name="student",
        runs=str(tmp_path / "runs"),
        task="attention_distillation",
        teacher=str(tmp_path / "runs" / "flow"),
        teacher_settings={"view": "flow"},
        **{"train.steps": 1, "model.attention.pooling": "soft"},
    )
    student = fit(config, quiet=True).folder
    repaired = do(recipe_of(student, tmp_path, [{"repair": {"train.steps": 2}}]))[1]
    assert load_classifier(repaired.made.model).run["teacher"] == config.teacher
    shutil.rmtree(tmp_path / "runs" / "flow")
    with pytest.raises(CheckpointError, match="checkpoint not found"):
        do(recipe_of(student, tmp_path / "again", [{"repair": {"train.steps": 2}}]))


DISTILLING = sorted(name for name, kind in TASKS.items() if kind.needs_teacher and not issubclass(kind, SolvedTask))
OVER: dict[str, dict[str, Any]] = {"anticipation": {"data.observe.protocol": "early", "data.window.short_clip": "hold"}}
"""What a method needs next to a teacher."""


@pytest.mark.parametrize("task", DISTILLING)
def test_every_distillation_repairs_what_was_pruned(
    task: str, tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repair = {"task": task, "teacher": "original", "train.steps": 2, "optim.lr": 0.01, "train.integers": True, "train.log_every": 1}
    written = [{"prune": {"ratio": 0.4, "scope": "uniform"}}, {"repair": {**repair, **OVER.get(task, {})}}]
    before = {name: value.clone() for name, value in load_classifier(tiny_teacher).model.state_dict().items()}
    with caplog.at_level(logging.INFO, "vidkd"):
        original, pruned, repaired = do(recipe_of(tiny_teacher, tmp_path, written))
    assert "weights and inputs of 7 layers are rounded to eight bits" in caplog.text
    nets = [load_classifier(outcome.made.model) for outcome in (pruned, repaired)]
    assert (nets[1].run["task"], nets[1].run["teacher"]) == (task, str(tiny_teacher))
    assert nets[1].model.changes == nets[0].model.changes != ()
    assert repaired.content["parameters"] == pruned.content["parameters"] < original.content["parameters"]
    here, there = (net.model.state_dict() for net in nets)
    assert here.keys() == there.keys(), "the checkpoint is that of the plain network"
    moved = [name for name, value in here.items() if not torch.equal(value, there[name])]
    assert {"fc.weight", "backbone.net.stem.0.weight"} <= set(moved), "the gradient reaches both ends"
    after = load_classifier(tiny_teacher).model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "the teacher stays unchanged"
    plain, *_ = read_jsonl(tiny_teacher / "metrics.jsonl")
    rows = [row for row in read_jsonl(repaired.made.model / "metrics.jsonl") if row["split"] == "train"]
    assert len(rows) == 2
    for row in rows:
        terms = set(row) - set(plain)
        assert any(row[term] > 0 for term in terms or {"loss"}), "the teacher says something else than what is left of the student"


TAYLOR: list[dict[str, Any]] = [{"prune": {"ratio": 0.3, "criterion": "taylor"}}]


def damaged(tiny_root: Path, folder: Path, count: int) -> Path:
    """The tiny data set with so many training files that hold no video."""
    shutil.copytree(tiny_root, folder)
    manifest = Manifest.read(folder / "manifest.jsonl")
    train = [clip for clip in manifest.clips if clip.subsets["1"] == "train"]
    for clip in train[:count]:
        (folder / clip.path).write_bytes(b"no video")
    return folder


@pytest.mark.parametrize("batch_size", [1, 4])
def test_unreadable_clips_are_counted_and_capped(
    tiny_teacher: Path, tiny_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, batch_size: int
) -> None:
    root = damaged(tiny_root, tmp_path / "data", 1)
    settings = {"data.root": str(root), "data.validation_fraction": 0.0, "data.batch_size": batch_size}
    with pytest.raises(DataError, match=r"training clips that cannot be read: 1(.|\n)*data\.max_bad_clips"):
        do(recipe_of(tiny_teacher, tmp_path, TAYLOR, settings=settings))
    with caplog.at_level(logging.WARNING, logger="vidkd"):
        pruned = do(recipe_of(tiny_teacher, tmp_path / "b", TAYLOR, settings={**settings, "data.max_bad_clips": 1}))[1]
    assert sum("skipped unreadable clip 1 of at most 1" in record.message for record in caplog.records) == 1
    assert pruned.content["parameters"] < sum(each.numel() for each in load_classifier(tiny_teacher).model.parameters())


def test_unreadable_frames_are_counted_and_capped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    streets = write_streets(tmp_path / "streets")
    student = fit_detector(street_config(streets, tmp_path / "runs"), quiet=True).folder
    next(streets.rglob("plain_01.mp4")).write_bytes(b"no video")
    settings = {"data.transform.mosaic": 0.0, "data.batch_size": 1}
    recipe = recipe_of(student, tmp_path, TAYLOR, subset="val", settings=settings)
    with pytest.raises(DataError, match=r"cannot be read: 1(.|\n)*max_bad_files"):
        list(run_recipe(recipe, DetectorSubject(recipe)))
    recipe = dataclasses.replace(recipe, runs=str(tmp_path / "b"), settings={**settings, "data.max_bad_files": 1})
    with caplog.at_level(logging.WARNING, logger="vidkd"):
        original, pruned = run_recipe(recipe, DetectorSubject(recipe))
    assert sum("skipped unreadable clip 1 of at most 1" in record.message for record in caplog.records) == 1
    assert pruned.content["parameters"] < original.content["parameters"]
