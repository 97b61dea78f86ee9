"""What a library refuses and places that cannot be written are told by exports and recipes: what, where, and how to mend it."""

import errno
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from test_detector_export import opened
from torch import nn

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.cli.main import run_verb
from vidkd.compress import export as shared
from vidkd.compress import export_card
from vidkd.compress import quantise as quantise_module
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.export import replaced_whole, write_openvino
from vidkd.compress.export_card import write_rows
from vidkd.compress.export_classifier import Graph, export_classifier
from vidkd.compress.export_detector import export_darknet_files, export_detector
from vidkd.compress.quantise import quantise
from vidkd.engine.config import load_config
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.saved import SavedClassifier
from vidkd.runtime import openvino_network

DATA = load_config(settings={"data": {"window": {"frames": 4}, "transform": {"short_side": 32, "crop": 32}}}).data
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def classifier() -> SavedClassifier:
    torch.manual_seed(0)
    return SavedClassifier(model=VideoClassifier(ModelConfig(), 3, "rgb").eval(), classes=("a", "b", "c"), view="rgb", run={})


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


def full(*_: Any, **__: Any) -> Any:
    raise FULL


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of a quarter of a megabyte, a fraction of the network's weights."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False, timeout=60
    ).returncode:
        pytest.skip("mounting a small file system wants root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=60)


@pytest.mark.parametrize(
    ("graph", "operations", "reason"),
    [
        (with_node("Mine", "mine"), "mine.Mine", "No conversion rule found for operations: mine.Mine"),
        (with_node("Det"), "Det-17", "No conversion rule found for operations: Det-17"),
        (scattered(), "ScatterND-17", "ank of updates must be rank of inputs + rank of indices - last dimension of indices - 1"),
    ],
)
def test_openvino_names_what_it_does_not_convert(graph: bytes, operations: str, reason: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(CheckpointError, match="not a network that OpenVINO can convert") as told:
        write_openvino(graph, "{}", tmp_path / "net.xml")
    assert told.value.lines["operations"] == operations
    assert reason in told.value.lines["reason"]
    assert not list(tmp_path.iterdir())


def uncompiled(*_: object) -> Any:
    raise RuntimeError("Exception from src/inference/src/core.cpp:1:\nCheck 'x' failed at y.cpp:2:\n[CPU] Shape is too odd")


@pytest.mark.parametrize("refusal", ["conversion", "compilation"])
@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_a_refusal_of_openvino_is_an_error_of_the_export(kind: str, refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "net.xml"
    path.write_text("what was there")
    if refusal == "compilation":
        monkeypatch.setattr(openvino_network, "compiled", uncompiled)
    else:
        whole = shared.require

        class Core:
            def read_model(self, _: object) -> Any:
                return whole("openvino", "openvino").Core().read_model(with_node("Mine", "mine"))

        fake = type("openvino", (), {"Core": Core})
        monkeypatch.setattr(shared, "require", lambda *_: fake)
    with pytest.raises(ConfigError) as told:
        export_classifier(classifier(), DATA, path) if kind == "classifier" else export_detector(opened(), path)
    assert told.value.what == f"cannot export {path}: OpenVINO refuses the network"
    assert ("mine.Mine" if refusal == "conversion" else "[CPU] Shape is too odd") in told.value.lines["reason"]
    assert told.value.lines["fix"].startswith("export .onnx, which ONNX Runtime runs; or another backbone")
    assert [each.name for each in tmp_path.iterdir()] == ["net.xml"]
    assert path.read_text() == "what was there"


@pytest.mark.parametrize("suffix", ["onnx", "xml", "pt2"])
def test_a_disk_that_is_full_leaves_nothing(suffix: str, small_disk: Path) -> None:
    with pytest.raises(ConfigError) as told:
        export_classifier(classifier(), DATA, small_disk / f"net.{suffix}")
    assert told.value.what == f"cannot write {small_disk / 'net'}.{suffix}"
    reason = told.value.lines["reason"]
    assert reason.startswith(os.strerror(errno.ENOSPC) if suffix != "xml" else "OpenVINO could not write its files (is the disk full?)")
    assert "make room" in told.value.lines["fix"]
    assert not list(small_disk.iterdir())


def spoil(net: nn.Module, value: float) -> None:
    """Every weight of the last convolution or linear layer becomes this value."""
    *_, last = (module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear))
    nn.init.constant_(last.weight, value)


@pytest.mark.parametrize(
    ("value", "told"), [(math.nan, "weights of the network are no finite"), (3e38, "outputs of the network are no finite")]
)
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [*(("classifier", suffix) for suffix in ("onnx", "xml", "pt2")), *(("detector", suffix) for suffix in ("onnx", "xml", "weights"))],
)
def test_a_network_without_finite_numbers_is_told_as_such(kind: str, suffix: str, value: float, told: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{suffix}"
    saved, detector = classifier(), opened()
    spoil(saved.model if kind == "classifier" else detector.net, value)
    export: dict[bool, Callable[[], Any]] = {
        kind == "classifier": lambda: export_classifier(saved, DATA, path, named="runs/a"),
        kind == "detector": lambda: export_detector(detector, path, named="runs/a"),
        suffix == "weights": lambda: export_darknet_files(detector, tmp_path, named="runs/a"),
    }
    with pytest.raises(ConfigError, match=told) as error:
        export[True]()
    assert error.value.lines["where"] == "runs/a"
    assert error.value.lines["fix"].startswith("an earlier checkpoint, or train it again with a lower learning rate")
    assert math.isfinite(value) or ".weight" in error.value.lines["weights"]
    assert suffix == "weights" or not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffixes", [(".onnx",), (".bin", ".xml")])
def test_two_who_write_one_file_do_not_mix(suffixes: tuple[str, ...], tmp_path: Path) -> None:
    """One has written and is checking, as another begins, writes and fails."""

    def write(path: Path, text: str) -> None:
        for suffix in suffixes:
            path.with_suffix(suffix).write_text(text)

    def fail(path: Path) -> None:
        with replaced_whole(path) as half:
            write(half, "half")
            raise CheckpointError("it is not what the network says")

    path = tmp_path / f"net{suffixes[-1]}"
    write(path, "what was there")
    with replaced_whole(path) as checked:
        write(checked, "checked")
        with pytest.raises(CheckpointError):
            fail(path)
        assert path.read_text() == "what was there"
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {f"net{suffix}": "checked" for suffix in suffixes}


def test_a_card_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_card, "atomic_write", full)
    with pytest.raises(ConfigError, match=f"cannot write {tmp_path}/net.onnx.md") as told:
        write_rows(tmp_path / "net.onnx", {}, licence=None)
    assert told.value.lines["reason"] == os.strerror(errno.ENOSPC)


def test_a_full_disk_under_the_quantiser_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files lie elsewhere than what is written in the end."""
    monkeypatch.setattr(quantise_module.tempfile, "TemporaryDirectory", full)
    feed = {"clip": np.zeros((1, 3, 4, 32, 32), np.uint8)}
    with pytest.raises(ConfigError, match="cannot write the quantiser's temporary files") as told:
        quantise(Graph(classifier(), DATA).onnx(), [feed], QuantiseConfig())
    assert told.value.lines["reason"] == os.strerror(errno.ENOSPC)
    assert "TMPDIR" in told.value.lines["fix"]


def test_places_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match="cannot write") as told:
        export_classifier(classifier(), DATA, tmp_path / "file" / "net.onnx")
    assert told.value.lines["reason"].endswith("/file")
    made = Path.write_bytes

    def read_only(path: Path, content: bytes) -> int:
        if path.suffix == ".onnx":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return made(path, content)

    monkeypatch.setattr(Path, "write_bytes", read_only)
    with pytest.raises(ConfigError, match=f"cannot write {tmp_path}/net.onnx") as told:
        export_classifier(classifier(), DATA, tmp_path / "net.onnx")
    assert told.value.lines["reason"].startswith("Permission denied: ")


def verb(name: str, *arguments: object) -> int:
    return run_verb(name, [*map(str, arguments)])


@pytest.mark.slow
def test_verbs_tell_it_without_a_traceback(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is refused in the last step costs none of the steps before it, and nothing of the folder is left half made."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(openvino_network, "compiled", uncompiled)
    assert verb("export", "--checkpoint", tiny_teacher, "--out", tmp_path / "net.xml") == 2
    said = capsys.readouterr().err
    assert f"vidkd: cannot export {tmp_path}/net.xml: OpenVINO refuses the network\n" in said
    assert "  fix    : export .onnx" in said
    recipe = tmp_path / "small.yaml"
    recipe.write_text("steps: [{prune: {ratio: 0.3}}, {export: {formats: [onnx, xml]}}]")
    command = ["--config", recipe, "--student", tiny_teacher, "--train.threads", 1]
    assert verb("compress", *command, "--runs", tmp_path) == 2
    said = capsys.readouterr().err
    assert f"vidkd: cannot export {tmp_path}/small/2_export/model.xml: OpenVINO refuses the network\n" in said
    assert (tmp_path / "small" / "1_prune" / "outcome.json").exists()
    assert not (tmp_path / "small" / "2_export" / "outcome.json").exists()
    (tmp_path / "file").write_text("no folder")
    assert verb("compress", *command, "--runs", tmp_path / "file") == 2
    assert f"vidkd: cannot write the run's folder {tmp_path}/file/small\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "function", "told"),
    [
        ("vidkd.compress.classifier", "save_classifier", "cannot write what the step {}/small/1_factorise makes"),
        ("vidkd.bench.summary", "write_summary", "cannot write {}/small/summary.json"),
        ("vidkd.report.page", "render_report", "cannot write {}/small/report.html"),
    ],
)
def test_a_recipe_on_a_full_disk(
    place: str,
    function: str,
    told: str,
    tiny_teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(f"{place}.{function}", full)
    recipe = tmp_path / "small.yaml"
    recipe.write_text("steps: [{factorise: {ratio: 0.6}}]")
    assert verb("compress", "--config", recipe, "--student", tiny_teacher, "--runs", tmp_path, "--train.threads", 1) == 2
    said = capsys.readouterr().err
    assert f"vidkd: {told.format(tmp_path)}\n  reason : {os.strerror(errno.ENOSPC)}\n" in said
