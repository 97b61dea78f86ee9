"""Export of darknet detectors: raw heads, boxes, metadata, integers that are counted; what they are compared on, and what is said."""

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
from vidkd.compress.export import Exported, export
from vidkd.compress.export_card import write_card
from vidkd.compress.export_detector import DetectorSource, integers_on
from vidkd.compress.parity import Samples, compared_from, drawn_frames
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.letterbox import RESIZE_MODES, RESIZE_WORDS, Letterbox, ResizeMode
from vidkd.runtime.metadata_file import find_metadata
from vidkd.runtime.opening import open_detector, open_network

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


def test_integers_need_footage(tmp_path: Path) -> None:
    here = opened()
    with pytest.raises(ConfigError, match="nothing to find the ranges of activations on"):
        export(DetectorSource(here, ""), tmp_path / "net.onnx", integers=integers_on(here, [], "", QuantiseConfig()))


def test_drawn_pictures_are_scenes_that_differ() -> None:
    drawn = drawn_frames(3)
    assert [(frame.shape, frame.dtype) for frame in drawn.values] == [((112, 112, 3), np.uint8)] * 3
    first, second, third = (frame.astype(int) for frame in drawn.values)
    assert min(np.abs(first - second).mean(), np.abs(second - third).mean()) > 5


@pytest.mark.parametrize(
    ("scores", "score"),
    [
        ([0.3, 0.2, 0.001], 0.25),  # one is shown
        ([], 0.25),
        ([0.2, 0.1, 0.1, 0.1, 0.05], 0.025),  # few: all of them
        ([0.2, 0.1, 0.1, 0.1, 0.1, 0.09, 0.01, 0.009], 0.03),  # the widest gap is below the sixth
        ([0.2, 0.01, 0.01, 0.01, 0.01, 0.009, 0.0], (0.01 * 0.009) ** 0.5),  # that after the first would leave too few
    ],
)
def test_boxes_are_compared_from_the_score_that_is_shown_or_from_a_gap_below_it(scores: list[float], score: float) -> None:
    assert compared_from(np.array(scores, np.float32), 0.25) == pytest.approx(score)


def test_where_nothing_is_shown_fainter_boxes_are_compared(tmp_path: Path) -> None:
    here = opened()
    here.score_threshold = 1.0
    parity = written(here, tmp_path / "net.onnx").parity
    assert parity.agreement is None
    assert "F1 1.000 (IoU 0.9) against its " in str(parity)
    assert "as it finds none from its own 1 on (noise)" in str(parity)
