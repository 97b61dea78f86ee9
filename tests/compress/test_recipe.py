"""Recipes as they are written: kinds, settings, order, and prunings in several steps."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_steps import do, recipe_of

from vidkd.base import cores
from vidkd.base.errors import CheckpointError, ConfigError, MissingExtraError, VidkdError
from vidkd.compress.classifier import ClassifierSubject
from vidkd.compress.recipe import ExportConfig, FactoriseConfig, PruneConfig, QuantiseConfig, RepairConfig, parse_steps, read_recipe
from vidkd.data.manifest import Manifest
from vidkd.models.saved import read_checkpoint


def test_steps_are_read_with_their_settings() -> None:
    written = [
        {"prune": {"ratio": 0.3, "exclude": ["fc"]}},
        {"repair": {"train.epochs": 2, "optim": {"lr": 0.1}}},
        {"factorise": {"macs": 0.7, "method": "any"}},
        {"quantise": None},
        {"export": {"formats": ["onnx", "xml"]}},
    ]
    steps = parse_steps(written, "r.yaml")
    assert [step.name for step in steps] == ["1_prune", "2_repair", "3_factorise", "4_quantise", "5_export"]
    assert [step.settings for step in steps] == [
        PruneConfig(ratio=0.3, exclude=("fc",)),
        RepairConfig(settings={"train": {"epochs": 2}, "optim": {"lr": 0.1}}),
        FactoriseConfig(macs=0.7, method="any"),
        QuantiseConfig(),
        ExportConfig(formats=("onnx", "xml")),
    ]


def test_a_pruning_in_several_steps_is_repaired_after_each() -> None:
    steps = parse_steps([{"prune": {"ratio": 0.6, "steps": 3}}, {"repair": {"train.epochs": 1}}, {"quantise": {}}], "r.yaml")
    parts = [("1_prune", 1), ("2_repair", 1), ("3_prune", 2), ("4_repair", 1), ("5_prune", 3), ("6_repair", 1), ("7_quantise", 1)]
    assert [(step.name, step.part) for step in steps] == parts
    config, left = PruneConfig(ratio=0.6, steps=3), 1.0
    for step in (1, 2, 3):
        left *= 1 - config.share(step)
        assert left == pytest.approx(1 - 0.2 * step)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ([], "a recipe needs at least one step"),
        ([{"prun": {}}], "unknown step 'prun'"),
        (["prune"], "a step is one kind with its settings"),
        ([{"prune": {}, "repair": {}}], "a step is one kind with its settings"),
        ([{"prune": {"ratoi": 0.5}}], "unknown setting 'ratoi'"),
        ([{"prune": {"ratio": 1.5}}], "expected : a number above 0 below 1"),
        ([{"prune": {"criterion": "l3"}}], "expected : one of l1, l2, norm_scale, taylor, random"),
        ([{"prune": 0.5}], "holds settings by name"),
        ([{"factorise": {"macs": 0.5, "energy": 0.9}}], "either energy or macs"),
        ([{"factorise": {"macs": 1}}], "macs"),
        ([{"prune": {"steps": 2}}], "no repair follows it"),
        ([{"prune": {"steps": 2}}, {"quantise": {}}], "no repair follows it"),
        ([{"quantise": {}}, {"repair": {}}], "after `quantise` a network can only be exported"),
        ([{"refit": {"ridge": 0}}], "expected : a number above 0"),
        ([{"distil": {"frames": 0}}], "expected : a whole number from 1 on"),
        ([{"export": {"tolerance": float("inf")}}], "tolerance"),
        ([{"export": {"formats": ["h5"]}}], "expected : a list of one of onnx, xml, pt2, darknet"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(written: list[Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as error:
        parse_steps(written, "r.yaml")
    assert "r.yaml" in str(error.value)


def test_the_command_line_stands_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("student: runs/a\nsteps: [{prune: {}}]\n")
    recipe = read_recipe(path)
    assert (recipe.student, recipe.name, recipe.folder, recipe.subset) == ("runs/a", "small", Path("runs/small"), "test")
    recipe = read_recipe(path, student="runs/b", name="c", runs=str(tmp_path))
    assert (recipe.student, recipe.folder) == ("runs/b", tmp_path / "c")
    path.write_text("steps: [{prune: {}}]\n")
    with pytest.raises(ConfigError, match="no student to compress"):
        read_recipe(path)


def test_a_seed_is_that_of_all_that_the_steps_draw(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    steps = "[{prune: {seed: 5}}, {repair: {train: {epochs: 2, seed: 1}}}, {distil: {}}, {factorise: {macs: 0.5}}, {quantise: {}}]"
    path.write_text(f"student: a\nsteps: {steps}\n")
    recipe = read_recipe(path, seed=3)
    assert recipe.folder == Path("runs/small-seed3")
    prune, repair, distil, factorise, quantise = (step.settings for step in recipe.steps)
    assert [each.seed for each in (prune, distil, quantise)] == [3, 3, 3]
    assert repair.settings == {"train": {"epochs": 2, "seed": 3}}
    assert factorise == read_recipe(path).steps[3].settings
    assert read_recipe(path).steps[0].settings.seed == 5
    assert read_recipe(path, seed=3, name="other").name == "other"


def test_files_are_found_below_the_roots_first(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("student: net.cfg\nsteps: [{prune: {}}]\n")
    (tmp_path / "net.cfg").touch()
    assert read_recipe(path, roots=[tmp_path]).found("net.cfg") == tmp_path / "net.cfg"
    with pytest.raises(ConfigError, match=rf"(?s)not there: none.cfg.*{path}.*--data.root DIR"):
        read_recipe(path, roots=[tmp_path]).found("none.cfg")


@pytest.mark.parametrize(
    ("module", "step", "extra"),
    [
        ("torch_pruning", {"prune": {"ratio": 0.3}}, "compress"),
        ("onnxruntime.quantization", {"quantise": {}}, "compress"),
        ("onnxscript", {"quantise": {}}, "export"),
        ("onnxruntime", {"export": {"formats": ["pt2", "onnx"]}}, "export"),
        ("openvino", {"export": {"formats": ["xml"]}}, "openvino"),
    ],
)
def test_a_package_that_is_missing_is_told_before_the_first_step(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, step: dict[str, Any], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"vidkd\[{extra}\](.|\n)*needed by +: step 2_"):
        do(recipe_of(tiny_teacher, tmp_path, [{"factorise": {"macs": 0.6}}, step]))
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ({"factorise": {"macs": 0.5, "exclude": ["bakcbone*"]}}, r"unknown layer 'bakcbone\*'"),
        ({"quantise": {"exclude": ["backbone.net.stem.1"]}}, r"unknown layer 'backbone\.net\.stem\.1'"),
        ({"quantise": {"clips": 1}}, "all 1 clips to find ranges on are of one class"),
        ({"export": {"formats": ["darknet"]}}, "this kind of network has no files of format darknet"),
        ({"repair": {"train.epoch": 2}}, r"unknown setting 'train\.epoch'"),
        ({"repair": {"task": "logits_kd", "teacher": "gone"}}, "checkpoint not found"),
        ({"repair": {"task": "logits_kd"}}, "task 'logits_kd' needs a teacher"),
        ({"distil": {}}, "are for detectors"),
    ],
)
def test_what_a_later_step_cannot_do_is_told_before_the_first(tiny_teacher: Path, tmp_path: Path, step: dict[str, Any], text: str) -> None:
    with pytest.raises(VidkdError, match=rf"{text}(.|\n)*needed by +: step 2_{next(iter(step))}"):
        do(recipe_of(tiny_teacher, tmp_path, [{"prune": {"ratio": 0.3}}, step]))
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("export", "text"), [({"formats": ["pt2"]}, "no files in integers of format pt2"), ({"tolerance": 1e-3}, "are held to no tolerance")]
)
def test_files_in_integers_that_cannot_be(tiny_teacher: Path, tmp_path: Path, export: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"{text}(.|\n)*step 2_export"):
        do(recipe_of(tiny_teacher, tmp_path, [{"quantise": {}}, {"export": export}]))
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("step", [{"prune": {"ratio": 0.3, "criterion": "taylor"}}, {"quantise": {}}])
def test_training_clips_that_a_step_needs_are_asked_for_before_the_first(
    tiny_teacher: Path, tiny_root: Path, tmp_path: Path, step: dict[str, Any]
) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    test = tuple(clip for clip in manifest.clips if "test" in clip.subsets.values())
    dataclasses.replace(manifest, clips=test).write(tmp_path / "manifest.jsonl")
    settings = {"data.manifest": str(tmp_path / "manifest.jsonl"), "data.validation_fraction": 0.0}
    with pytest.raises(VidkdError, match=r"no labelled training clips(.|\n)*needed by +: step 2_"):
        do(recipe_of(tiny_teacher, tmp_path, [{"factorise": {"macs": 0.6}}, step], settings=settings))
    assert not (tmp_path / "small").exists()


def test_the_teacher_of_the_student_s_own_run_is_asked_for_before_the_first(tiny_teacher: Path, tmp_path: Path) -> None:
    content = read_checkpoint(tiny_teacher)
    content["run"] |= {"task": "logits_kd", "teacher": str(tmp_path / "gone"), "teacher_settings": {"view": "rgb"}, "method": None}
    torch.save(content, tmp_path / "student.pt")
    with pytest.raises(CheckpointError, match=rf"checkpoint not found: {tmp_path}/gone(.|\n)*step 1_repair"):
        do(recipe_of(tmp_path / "student.pt", tmp_path, [{"repair": {"train.steps": 1}}]))
    assert not (tmp_path / "small").exists()
    labels = [{"repair": {"task": "supervised", "train.steps": 1}}]
    assert len(do(recipe_of(tmp_path / "student.pt", tmp_path, labels))) == 2, "labels alone need no teacher"


def test_layers_that_factorising_renames_are_not_checked_before_the_first(tiny_teacher: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_teacher, tmp_path, [{"factorise": {"macs": 0.7}}, {"quantise": {"exclude": ["backbone.net.stem.0.1"]}}])
    subject = ClassifierSubject(recipe)
    subject.check(recipe.steps, [])
    with pytest.raises(ConfigError, match=r"unknown layer 'backbone\.net\.stem\.0\.1'(.|\n)*step 2_quantise"):
        subject.check(recipe.steps[1:], [])


def test_files_and_devices_that_do_not_belong_to_a_student_are_refused(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="`weights` and `names` belong to a darknet cfg"):
        do(recipe_of(tiny_teacher, tmp_path, [{"prune": {}}], weights="student.weights"))
    with pytest.raises(ConfigError, match="footage are for detectors"):
        do(recipe_of(tiny_teacher, tmp_path, [{"prune": {}}], footage=("street.mp4",)))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"cuda(.|\n)*--train\.device"):
            do(recipe_of(tiny_teacher, tmp_path, [{"prune": {"ratio": 0.3}}], settings={"train.device": "cuda"}))
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    with pytest.raises(ConfigError, match=r"3 threads on 2 cores(.|\n)*train\.threads(.|\n)*step 1_repair"):
        do(recipe_of(tiny_teacher, tmp_path, [{"repair": {"train.threads": 3}}]))
    assert not (tmp_path / "small").exists()


def test_a_student_or_data_that_cannot_be(tiny_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="checkpoint not found"):
        ClassifierSubject(recipe_of(tmp_path / "none", tmp_path, [{"prune": {}}]))
    for settings, text in (({"data.root": str(tmp_path)}, "not found"), ({"data.rooot": "x"}, r"unknown setting 'data\.rooot'")):
        with pytest.raises(VidkdError, match=text):
            ClassifierSubject(recipe_of(tiny_teacher, tmp_path, [{"prune": {}}], settings=settings))


def test_what_was_finished_stays_where_a_later_step_fails(tiny_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="would remove all"):
        do(recipe_of(tiny_teacher, tmp_path, [{"prune": {"ratio": 0.99, "scope": "uniform"}}]))
    assert (tmp_path / "small" / "0_original" / "outcome.json").exists()
