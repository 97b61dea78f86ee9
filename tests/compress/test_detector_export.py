"""Export of darknet detectors: raw heads, boxes, metadata, integers that are counted; and what cannot be exported."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from test_compressed_darknet import NAMES, detector, images
from zeroed_filters import lively

from vidkd.base.errors import ConfigError
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.export_detector import export_detector, write_detector_card
from vidkd.compress.parity import Frames
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.metadata_file import find_metadata
from vidkd.runtime.opening import open_detector, open_network

LOOSE = 1e-3
"""Of values that a random network makes."""


def opened(name: str = "tiny_student", **settings: object) -> DarknetDetector:
    net = lively(detector(name), images(2))  # boxes of every score, instead of one score for all
    assert isinstance(net, Darknet)
    return DarknetDetector(net, tuple(f"class {number}" for number in range(net.classes)), score_threshold=0.002, **settings)  # type: ignore[arg-type]


def frames(count: int = 3, seed: int = 0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (72, 96, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("name", [*NAMES, "depthwise"])
@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_the_file_finds_what_the_network_finds(name: str, suffix: str, tmp_path: Path) -> None:
    here = opened(name)
    made = export_detector(here, tmp_path / f"net.{suffix}", frames=Frames(values=frames(), source="noise"), tolerance=LOOSE)
    there = open_detector(tmp_path / f"net.{suffix}", device="cpu")
    assert list(there.class_names) == list(here.class_names)
    assert made.parity.boxes > 0, "there is something to compare"
    assert made.parity.f1 == 1
    assert (made.parity.frames, made.parity.source) == (3, "noise")
    for one, two in zip(here(np.stack(frames(seed=1))), there(np.stack(frames(seed=1))), strict=True):
        assert len(one) == len(two)
        np.testing.assert_allclose(np.sort(one.scores), np.sort(two.scores), atol=1e-3)


@pytest.mark.parametrize("resize", ["stretch", "centre"])
def test_frames_meet_the_file_as_they_meet_the_network(resize: str, tmp_path: Path) -> None:
    here = opened(resize=resize)
    export_detector(here, tmp_path / "net.onnx", tolerance=LOOSE)
    metadata = find_metadata(open_network(tmp_path / "net.onnx"))
    assert (metadata.input.resize, metadata.score, metadata.nms_iou) == (resize, 0.002, 0.45)
    there = open_detector(tmp_path / "net.onnx", device="cpu")
    (one,), (two,) = here(np.stack(frames(1))), there(np.stack(frames(1)))
    assert len(one) == len(two) > 0
    np.testing.assert_allclose(one.boxes[np.lexsort(one.boxes.T)], two.boxes[np.lexsort(two.boxes.T)], atol=0.05)


def test_integers_are_counted_and_cost_little(tmp_path: Path) -> None:
    here = opened()
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in here.net.modules())
    made = export_detector(here, tmp_path / "whole.onnx", tolerance=LOOSE)
    assert made.quantised is None
    for suffix in ("onnx", "xml"):
        path = tmp_path / f"net.{suffix}"
        found = export_detector(
            here, path, frames=Frames(values=frames(), source="noise"), integers=QuantiseConfig(clips=4), footage=frames(4, seed=2)
        )
        assert found.quantised is not None
        assert found.quantised.convolutions == convolutions
        assert all(name.startswith("layers.") for name in found.quantised.layers)
        assert 0 < found.parity.heads < 0.2 * found.parity.scale
    assert (tmp_path / "net.onnx").stat().st_size < (tmp_path / "whole.onnx").stat().st_size / 2
    excluded = export_detector(
        here, tmp_path / "net.onnx", integers=QuantiseConfig(exclude=("layers.0",), sensitivity=True), footage=frames(4, seed=2)
    )
    assert excluded.quantised is not None
    assert excluded.quantised.convolutions == convolutions - 1
    assert excluded.quantised.left == {"layers.0": "exclude"}
    assert len(excluded.quantised.sensitivity) == convolutions - 1
    card = write_detector_card(excluded, network="darknet, tiny", licence="MIT").read_text(encoding="utf-8")
    assert f"in eight-bit integers: {convolutions - 1} convolutions" in card
    assert "| Licence of the weights | MIT |" in card


def test_the_file_holds_weights_and_no_features(tmp_path: Path) -> None:
    here = opened()
    export_detector(here, tmp_path / "net.onnx", tolerance=LOOSE)
    model = onnx.load(tmp_path / "net.onnx")
    assert [output.name for output in model.graph.output] == [f"head_{place}" for place in range(len(here.net.heads))]
    assert not any(node.op_type == "GlobalAveragePool" for node in model.graph.node)
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)


def test_what_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = opened()
    with pytest.raises(ConfigError, match=r"not a format of a detector's export: .*net\.pt2"):
        export_detector(here, tmp_path / "net.pt2")
    with pytest.raises(ConfigError, match="nothing to find the ranges of activations on"):
        export_detector(here, tmp_path / "net.onnx", integers=QuantiseConfig())
    (tmp_path / "net.onnx").write_bytes(b"old")
    with pytest.raises(ConfigError, match=r"does not say what the network says(.|\n)*fix     : --tolerance X, if so much does not matter"):
        export_detector(here, tmp_path / "net.onnx", tolerance=0.0, more="--tolerance X")
    assert (tmp_path / "net.onnx").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
