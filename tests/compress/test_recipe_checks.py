"""What a recipe asks for before its first step is done: packages, layers, training clips."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_steps import do, recipe_of

from vidkd.base.errors import CheckpointError, ConfigError, DataError, MissingExtraError
from vidkd.compress.recipe import parse_steps
from vidkd.compress.subject import check_excluded
from vidkd.data.manifest import Manifest
from vidkd.models.saved import load_classifier, read_checkpoint


@pytest.mark.parametrize(
    ("module", "step", "extra"),
    [
        ("torch_pruning", {"prune": {"ratio": 0.3}}, "compress"),
        ("onnx", {"quantise": {}}, "compress"),
        ("onnxruntime.quantization", {"quantise": {}}, "compress"),
        ("onnxscript", {"quantise": {}}, "export"),
        ("onnxscript", {"export": {}}, "export"),
        ("onnxruntime", {"export": {"formats": ["pt2", "onnx"]}}, "export"),
        ("openvino", {"export": {"formats": ["xml"]}}, "openvino"),
    ],
)
def test_a_package_that_is_missing_is_told_before_the_first_step(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, step: dict[str, Any], extra: str
) -> None:
    written = [{"factorise": {"ratio": 0.6}}, step]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match=rf"vidkd\[{extra}\](.|\n)*needed by : step 2_"):
            do(recipe_of(tiny_teacher, tmp_path, written))
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"factorise": {"ratio": 0.5, "exclude": ["bakcbone*"]}}, r"unknown layer 'bakcbone\*'"),
        ({"quantise": {"exclude": ["bakcbone*"]}}, r"unknown layer 'bakcbone\*'"),
        ({"quantise": {"exclude": ["backbone.net.stem.1"]}}, r"unknown layer 'backbone\.net\.stem\.1'"),
        ({"quantise": {"clips": 1}}, "all 1 clips to find ranges on are of one class"),
    ],
)
def test_what_a_later_step_cannot_do_is_told_before_the_first(tiny_teacher: Path, tmp_path: Path, step: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=rf"{told}(.|\n)*step 2_{next(iter(step))}"):
        do(recipe_of(tiny_teacher, tmp_path, [{"prune": {"ratio": 0.3}}, step]))
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"prune": {"ratio": 0.3, "criterion": "taylor"}}, "has no labelled training clips"),
        ({"quantise": {}}, "no labelled training clips to find ranges on"),
    ],
)
def test_training_clips_that_a_step_needs_are_asked_for_before_the_first(
    tiny_teacher: Path, tiny_root: Path, tmp_path: Path, step: dict[str, Any], told: str
) -> None:
    root = tmp_path / "judged"
    shutil.copytree(tiny_root, root)
    manifest = Manifest.read(root / "manifest.jsonl")
    test = [clip for clip in manifest.clips if "test" in clip.subsets.values()]
    dataclasses.replace(manifest, clips=tuple(test)).write(root / "manifest.jsonl")
    settings = {"data.root": str(root), "data.validation_fraction": 0.0}
    with pytest.raises(DataError, match=rf"{told}(.|\n)*needed by : step 2_"):
        do(recipe_of(tiny_teacher, tmp_path, [{"factorise": {"ratio": 0.6}}, step], settings=settings))
    assert not (tmp_path / "small").exists()


def test_the_teacher_of_the_student_s_own_run_is_asked_for_before_the_first(tiny_teacher: Path, tmp_path: Path) -> None:
    content = read_checkpoint(tiny_teacher)
    content["run"] |= {"task": "logits_kd", "teacher": str(tmp_path / "gone"), "teacher_settings": {"view": "rgb"}, "method": None}
    torch.save(content, tmp_path / "student.pt")
    written: list[dict[str, Any]] = [{"prune": {"ratio": 0.3}}, {"repair": {"train.steps": 1}}]
    with pytest.raises(CheckpointError, match=rf"checkpoint not found: {tmp_path}/gone(.|\n)*step 2_repair"):
        do(recipe_of(tmp_path / "student.pt", tmp_path, written))
    assert not (tmp_path / "small").exists()
    written[1] = {"repair": {"task": "supervised", "train.steps": 1}}
    assert len(do(recipe_of(tmp_path / "student.pt", tmp_path, written))) == 3, "labels alone need no teacher"


def test_layers_that_factorising_renames_are_not_checked_before_the_first(tiny_teacher: Path) -> None:
    steps = parse_steps([{"factorise": {"ratio": 0.7}}, {"quantise": {"exclude": ["backbone.net.stem.0.1", "node_*"]}}], "r.yaml")
    net = load_classifier(tiny_teacher).model
    check_excluded(steps, net)
    with pytest.raises(ConfigError, match=r"unknown layer 'backbone\.net\.stem\.0\.1'(.|\n)*step 2_quantise: exclude"):
        check_excluded(steps[1:], net)


@pytest.mark.parametrize("key", ["weights", "names"])
def test_files_that_a_student_does_not_have_are_refused(tiny_teacher: Path, tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"`{key}` belong to a darknet cfg; the student is a classifier of clips(.|\n)*leave out `{key}`"):
        do(recipe_of(tiny_teacher, tmp_path, [{"prune": {}}], **{key: "student.weights"}))
    assert not (tmp_path / "small").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_is_told_before_the_first(tiny_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cuda(.|\n)*--train\.device"):
        do(recipe_of(tiny_teacher, tmp_path, [{"prune": {"ratio": 0.3}}], settings={"train.device": "cuda"}))
    assert not (tmp_path / "small").exists()
