"""What a recipe asks for before its first step is done: packages, layers, training clips."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from darknet_cfgs import stacked_cfg
from test_steps import do, recipe_of

from vidkd.base.errors import CheckpointError, ConfigError, DataError, MissingExtraError
from vidkd.compress import importance
from vidkd.compress.check import check_normalised, check_spared
from vidkd.compress.recipe import parse_steps
from vidkd.data.manifest import Manifest
from vidkd.models.darknet import Darknet, parse_cfg
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
        ({"factorise": {"ratio": 0.5, "spare": ["bakcbone*"]}}, r"unknown layer 'bakcbone\*'"),
        ({"quantise": {"spare": ["bakcbone*"]}}, r"unknown layer 'bakcbone\*'"),
        ({"quantise": {"spare": ["backbone.net.stem.1"]}}, r"unknown layer 'backbone\.net\.stem\.1'"),
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


def test_scales_of_normalisation_are_asked_for_before_the_first(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, Any]] = [{"factorise": {"ratio": 0.6}}, {"prune": {"ratio": 0.3, "criterion": "norm_scale"}}]
    assert len(do(recipe_of(tiny_teacher, tmp_path / "normalised", written))) == 3
    monkeypatch.setattr(importance, "is_norm", lambda _: False)
    with pytest.raises(ConfigError, match=r"2_prune: no filter that may go has batch normalisation(.|\n)*criterion: l1, l2 or taylor"):
        do(recipe_of(tiny_teacher, tmp_path, written))
    assert not (tmp_path / "small").exists()


def test_a_darknet_that_is_normalised_only_where_nothing_may_go_is_not_judged_by_scales() -> None:
    whole = stacked_cfg([(8, 2), (16, 2)], classes=2)
    steps = parse_steps([{"prune": {"criterion": "norm_scale"}}], "r.yaml")
    check_normalised(steps, Darknet(parse_cfg(whole)), torch.zeros(1, 3, 64, 64))
    plain = whole.replace("batch_normalize=1\n", "").replace("size=1\n", "size=1\nbatch_normalize=1\n")
    assert plain.count("batch_normalize=1") == 1, "of the raw heads"
    with pytest.raises(ConfigError, match="no filter that may go has batch normalisation"):
        check_normalised(steps, Darknet(parse_cfg(plain)), torch.zeros(1, 3, 64, 64))


def test_factors_may_be_spared_by_the_names_that_they_will_have(tiny_teacher: Path) -> None:
    steps = parse_steps(
        [
            {"factorise": {"ratio": 0.7}},
            {"prune": {"spare": ["backbone.net.stem.0.1"]}},
            {"quantise": {"spare": ["backbone.net.stem.0.1", "node_*"]}},
        ],
        "r.yaml",
    )
    net = load_classifier(tiny_teacher).model
    check_spared(steps, net)
    with pytest.raises(ConfigError, match=r"unknown layer 'backbone\.net\.stem\.0\.1'(.|\n)*step 3_quantise: spare"):
        check_spared(steps[2:], net)


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
