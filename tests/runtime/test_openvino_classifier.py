"""An exported classifier run by OpenVINO: the same numbers by hand, and files that are not whole."""

import ctypes
import gc
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_model import FRAMES, SIZE, clip_metadata, clip_onnx

from vidkd.base.errors import CheckpointError
from vidkd.runtime.opening import open_exported_classifier
from vidkd.runtime.openvino_network import _SignalStack, compiled

openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    model = openvino.Core().read_model(str(clip_onnx(folder / "net.onnx", None)))
    model.set_rt_info(json.dumps(clip_metadata()), "vidkd")
    openvino.save_model(model, str(folder / "net.xml"), compress_to_fp16=False)
    return folder / "net.xml"


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    for suffix in (".xml", ".bin"):
        (tmp_path / "net").with_suffix(suffix).write_bytes(made.with_suffix(suffix).read_bytes())
    return tmp_path / "net.xml"


def test_probabilities_by_hand(made: Path) -> None:
    classifier = open_exported_classifier(made, device="cpu", threads=1)
    clips = np.zeros((3, 3, FRAMES, SIZE, SIZE), np.uint8)
    clips[0, 1] = 255
    clips[1, :, :, :8, :8] = 3
    found = classifier(clips)
    e5, e3 = np.exp(5), np.exp(3)
    np.testing.assert_allclose(found.probabilities, [[1 / (e5 + 2), e5 / (e5 + 2), 1 / (e5 + 2)], [1 / 3] * 3, [1 / 3] * 3], rtol=1e-5)
    assert found.attention is not None
    np.testing.assert_allclose(found.attention[1], np.tile(np.array([[e3, 1], [1, 1]]) / (e3 + 3), (FRAMES, 1, 1)), rtol=1e-5)
    kept = found.probabilities.copy()
    classifier(clips[::-1].copy())
    np.testing.assert_array_equal(found.probabilities, kept)
    assert classifier.metadata.to_json() == open_exported_classifier(made).metadata.to_json()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    from vidkd.compress.export import write_openvino

    for name, scale in (("net", 1 / 51), ("other", 1 / 40)):
        graph = clip_onnx(tmp_path / f"{name}.onnx", clip_metadata(), scale=scale).read_bytes()
        write_openvino(graph, tmp_path / f"{name}.xml")
        assert open_exported_classifier(tmp_path / f"{name}.xml").metadata.classes == ("red", "green", "blue")
    (tmp_path / "net.bin").write_bytes((tmp_path / "other.bin").read_bytes())
    with pytest.raises(CheckpointError, match=r"net\.bin does not hold the weights of .*net\.xml"):
        open_exported_classifier(tmp_path / "net.xml")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda xml, weights: xml.write_bytes(xml.read_bytes()[: xml.stat().st_size // 2]), r"OpenVINO can run: .*\n.*it is truncated"),
        (lambda xml, weights: xml.write_bytes(b""), r"not a model that OpenVINO can run: .*\n.*it is truncated"),
        (lambda xml, weights: xml.write_bytes(b"<net></net>"), "not a model that OpenVINO can run"),
        (lambda xml, weights: weights.write_bytes(weights.read_bytes()[:4]), r"\.bin is truncated, or does not belong to \w+\.xml"),
        (lambda xml, weights: weights.unlink(), "weights of the model not found"),
    ],
)
def test_files_that_are_not_whole(damage: Any, text: str, copied: Path) -> None:
    damage(copied, copied.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=text) as caught:
        open_exported_classifier(copied)
    assert "again" in caught.value.lines["fix"]


def test_ctrl_c_is_heard_when_a_network_is_gone(made: Path) -> None:
    """OpenVINO would leave the thread a stack for signals that it frees with the network."""
    classifier = open_exported_classifier(made, device="cpu")
    classifier(np.zeros((1, 3, FRAMES, SIZE, SIZE), np.uint8))
    stack = _SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    before = stack.base
    del classifier
    network = compiled(openvino.Core(), openvino.Core().read_model(str(made)), {})
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    assert stack.base == before
    del network
    gc.collect()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
