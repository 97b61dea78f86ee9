"""Export of darknet detectors: raw heads, boxes, metadata, integers that are counted; what they are compared on, and what is said."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from test_compressed_darknet import NAMES, detector, images
from torch import nn
from zeroed_filters import lively

from vidkd.base.errors import CheckpointError, ConfigError, WriteError
from vidkd.cli.main import run_verb
from vidkd.compress.export import Exported, Source, export, write_card, write_openvino
from vidkd.compress.export_classifier import ClassifierSource
from vidkd.compress.export_detector import DetectorSource, integers_on
from vidkd.compress.parity import Samples, drawn_frames
from vidkd.compress.recipe import QuantiseConfig
from vidkd.engine.config import load_config
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.models.saved import SavedClassifier
from vidkd.runtime import networks
from vidkd.runtime.letterbox import RESIZE_MODES, RESIZE_WORDS, Letterbox, ResizeMode
from vidkd.runtime.opening import find_metadata, open_detector, open_network

LOOSE = 1e-3  # of values that a random network makes


def opened(name: str = "tiny_student", **settings: object) -> DarknetDetector:
    net = lively(detector(name), images(2))  # boxes of every score, instead of one score for all
    assert isinstance(net, Darknet)
    return DarknetDetector(net, tuple(f"class {number}" for number in range(net.classes)), score_threshold=0.002, **settings)  # type: ignore[arg-type]


def frames(count: int = 3, seed: int = 0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (72, 96, 3), dtype=np.uint8) for _ in range(count)]


NOISE = Samples(values=frames(), source="noise")


def written(here: DarknetDetector, path: Path, config: QuantiseConfig | None = None) -> Exported:
    integers = None if config is None else integers_on(here, frames(4, seed=2), "noise", config)
    return export(DetectorSource(here, "runs/a"), path, NOISE, tolerance=LOOSE, integers=integers)


@pytest.mark.parametrize("name", [*NAMES, "depthwise"])
@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_the_file_finds_what_the_network_finds(name: str, suffix: str, tmp_path: Path) -> None:
    here = opened(name)
    made = written(here, tmp_path / f"net.{suffix}")
    there = open_detector(tmp_path / f"net.{suffix}", device="cpu")
    assert list(there.class_names) == list(here.class_names)
    assert made.parity.agreement == 1, "there is something to compare"
    assert made.parity.source == "noise"
    for one, two in zip(here(np.stack(frames(seed=1))), there(np.stack(frames(seed=1))), strict=True):
        assert len(one) == len(two)
        np.testing.assert_allclose(np.sort(one.scores), np.sort(two.scores), atol=1e-3)


@pytest.mark.parametrize("resize", ["stretch", "centre"])
def test_frames_meet_the_file_as_they_meet_the_network(resize: str, tmp_path: Path) -> None:
    here = opened(resize=resize)
    written(here, tmp_path / "net.onnx")
    metadata = find_metadata(open_network(tmp_path / "net.onnx"))
    assert (metadata.input.resize, metadata.score, metadata.nms_iou) == (resize, 0.002, 0.45)
    there = open_detector(tmp_path / "net.onnx", device="cpu")
    (one,), (two,) = here(np.stack(frames(1))), there(np.stack(frames(1)))
    assert len(one) == len(two) > 0
    np.testing.assert_allclose(one.boxes[np.lexsort(one.boxes.T)], two.boxes[np.lexsort(two.boxes.T)], atol=0.05)


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_words_of_a_card_tell_what_the_letterbox_does(mode: ResizeMode) -> None:
    said = DetectorSource(opened(resize=mode), "runs/a").rows()["Resizing"]
    assert said.startswith(RESIZE_WORDS[mode])
    assert said.endswith("to 64 x 64 pixels")
    letterbox = Letterbox.fit((100, 50), (64, 64), mode)
    inside = letterbox.apply(np.full((50, 100, 3), 255, np.uint8), 128)
    assert ("with the value 128" in said) == bool((inside == 128).any())
    assert ("aspect kept" in said) == (letterbox.width / letterbox.height == 2) != ("scaled apart" in said)
    assert ("in the middle" in said) == (0 < letterbox.top == 64 - letterbox.height - letterbox.top)


def test_integers_are_counted_and_cost_little(tmp_path: Path) -> None:
    here = opened()
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in here.net.modules())
    assert written(here, tmp_path / "whole.onnx").quantised is None
    for suffix in ("onnx", "xml"):
        found = written(here, tmp_path / f"net.{suffix}", QuantiseConfig())
        assert found.quantised is not None
        assert found.quantised.convolutions == convolutions
        assert all(name.startswith("layers.") for name in found.quantised.layers)
        assert 0 < found.parity.difference < 0.2 * found.parity.scale
    assert (tmp_path / "net.onnx").stat().st_size < (tmp_path / "whole.onnx").stat().st_size / 2
    excluded = written(here, tmp_path / "net.onnx", QuantiseConfig(exclude=("layers.0",)))
    assert excluded.quantised is not None
    assert excluded.quantised.left == {"layers.0": "exclude"}
    assert excluded.quantised.convolutions == convolutions - 1
    card = write_card(excluded, licence="MIT").read_text(encoding="utf-8")
    assert f"in eight-bit integers: {convolutions - 1} convolutions" in card
    assert "| Licence of the weights | MIT |" in card


def test_the_file_holds_weights_and_no_features(tmp_path: Path) -> None:
    here = opened()
    written(here, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert [output.name for output in model.graph.output] == [f"head_{place}" for place in range(len(here.net.heads))]
    assert not any(node.op_type == "GlobalAveragePool" for node in model.graph.node)
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)


def test_drawn_pictures_are_scenes_that_differ() -> None:
    drawn = drawn_frames(3)
    assert [(frame.shape, frame.dtype) for frame in drawn.values] == [((112, 112, 3), np.uint8)] * 3
    first, second, third = (frame.astype(int) for frame in drawn.values)
    assert min(np.abs(first - second).mean(), np.abs(second - third).mean()) > 5


def test_where_nothing_is_shown_raw_heads_alone_are_compared(tmp_path: Path) -> None:
    here = opened()
    here.score_threshold = 1.0
    parity = written(here, tmp_path / "net.onnx").parity
    assert parity.agreement is None
    assert parity.answers == "no box was compared, as the network finds none there"


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
    monkeypatch.setattr(networks, "compiled", uncompiled)
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
    monkeypatch.setattr(networks, "compiled", uncompiled)
    recipe = tmp_path / "small.yaml"
    recipe.write_text("steps: [{prune: {ratio: 0.3}}, {export: {formats: [onnx, xml]}}]")
    command = ["--config", str(recipe), "--model", str(tiny_teacher), "--train.threads", "1", "--runs", str(tmp_path)]
    assert run_verb("compress", command) == 2
    assert f"vidkd: cannot export {tmp_path}/small/2_export/model.xml: OpenVINO refuses the network\n" in capsys.readouterr().err
    assert (tmp_path / "small" / "1_prune" / "outcome.json").exists()
    assert not (tmp_path / "small" / "2_export" / "outcome.json").exists()
