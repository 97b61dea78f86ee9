"""What a recipe checks before its first step is done: settings, packages, layers, training clips, devices."""

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
from vidkd.data.manifest import Manifest
from vidkd.models.saved import read_checkpoint


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
