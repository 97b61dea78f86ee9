"""What a library refuses and places that cannot be written are told by exports and recipes: what, where, and how to fix it."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import TensorProto, helper
from test_detector_export import opened
from torch import nn

from vidkd.base.errors import CheckpointError, ConfigError, WriteError
from vidkd.cli.main import run_verb
from vidkd.compress.export import Source, export, write_openvino
from vidkd.compress.export_classifier import ClassifierSource
from vidkd.compress.export_detector import DetectorSource
from vidkd.engine.config import load_config
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.saved import SavedClassifier
from vidkd.runtime import openvino_network

DATA = load_config(settings={"data": {"window": {"frames": 4}, "transform": {"short_side": 32, "crop": 32}}}).data


def source_of(kind: str) -> Source:
    if kind == "detector":
        return DetectorSource(opened(), "runs/a")
    torch.manual_seed(0)
    saved = SavedClassifier(model=VideoClassifier(ModelConfig(), 3, "rgb").eval(), classes=("a", "b", "c"), view="rgb", run={})
    return ClassifierSource(saved, DATA, "runs/a")


def with_node(operation: str, domain: str = "", shape: tuple[int, ...] = (2, 2)) -> bytes:
    """A graph of one node."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operation, ["x"], ["y"], domain=domain)], "net", ports[:1], ports[1:])
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    return bytes(helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString())


def scattered() -> bytes:
    """A graph whose one operation OpenVINO has, and does not take with these shapes."""
    kinds = {"x": (TensorProto.FLOAT, (4, 2)), "at": (TensorProto.INT64, (2, 1)), "new": (TensorProto.FLOAT, (2, 2, 3))}
    given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in kinds.items()]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (4, 2))]
    graph = helper.make_graph([helper.make_node("ScatterND", list(kinds), ["y"])], "net", given, out)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString())


@pytest.mark.parametrize(
    ("graph", "operations", "reason"),
    [
        (with_node("Mine", "mine"), "mine.Mine", "No conversion rule found for operations: mine.Mine"),
        (scattered(), "ScatterND-17", "ank of updates must be rank of inputs + rank of indices - last dimension of indices - 1"),
    ],
)
def test_openvino_names_what_it_does_not_convert(graph: bytes, operations: str, reason: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(CheckpointError, match="not a network that OpenVINO can convert") as text:
        write_openvino(graph, tmp_path / "net.xml")
    assert text.value.lines["operations"] == operations
    assert reason in text.value.lines["reason"]
    assert not list(tmp_path.iterdir())


def uncompiled(*_: object) -> Any:
    raise RuntimeError("Exception from src/inference/src/core.cpp:1:\nCheck 'x' failed at y.cpp:2:\n[CPU] Shape is too odd")


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_a_refusal_of_openvino_is_an_error_of_the_export(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "net.xml"
    path.write_text("what was there")
    monkeypatch.setattr(openvino_network, "compiled", uncompiled)
    with pytest.raises(ConfigError) as text:
        export(source_of(kind), path)
    assert text.value.what == f"cannot export {path}: OpenVINO refuses the network"
    assert "[CPU] Shape is too odd" in text.value.lines["reason"]
    assert text.value.lines["fix"].startswith("export .onnx, which ONNX Runtime runs; or another backbone")
    assert [each.name for each in tmp_path.iterdir()] == ["net.xml"]
    assert path.read_text() == "what was there"


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError) as text:
        export(source_of("classifier"), tmp_path / "net.onnx")
    assert text.value.what == f"cannot write: {tmp_path / 'net.onnx'}"
    assert text.value.lines["reason"] == os.strerror(errno.ENOSPC)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WriteError, match="cannot write"):
        export(source_of("classifier"), tmp_path / "file" / "net.onnx")


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "weights of the network are no finite"), (3e38, "outputs of the network are no finite")]
)
@pytest.mark.parametrize(("kind", "suffix"), [("classifier", "onnx"), ("classifier", "pt2"), ("detector", "xml"), ("detector", "weights")])
def test_a_network_without_finite_numbers_is_told_as_such(kind: str, suffix: str, value: float, text: str, tmp_path: Path) -> None:
    source = source_of(kind)
    *_, last = (module for module in source.net.modules() if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear))
    nn.init.constant_(last.weight, value)
    with pytest.raises(ConfigError, match=text) as error:
        export(source, tmp_path / f"student.{suffix}")
    assert error.value.lines["fix"].startswith("an earlier checkpoint, or train it again with a lower learning rate")
    assert math.isfinite(value) or (error.value.lines["where"], ".weight" in error.value.lines["weights"]) == ("runs/a", True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_is_refused_in_the_last_step_costs_none_of_the_steps_before_it(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(openvino_network, "compiled", uncompiled)
    recipe = tmp_path / "small.yaml"
    recipe.write_text("steps: [{prune: {ratio: 0.3}}, {export: {formats: [onnx, xml]}}]")
    command = ["--config", str(recipe), "--model", str(tiny_teacher), "--train.threads", "1", "--runs", str(tmp_path)]
    assert run_verb("compress", command) == 2
    assert f"vidkd: cannot export {tmp_path}/small/2_export/model.xml: OpenVINO refuses the network\n" in capsys.readouterr().err
    assert (tmp_path / "small" / "1_prune" / "outcome.json").exists()
    assert not (tmp_path / "small" / "2_export" / "outcome.json").exists()
