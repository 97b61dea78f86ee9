"""An exported classifier run by OpenVINO: the same numbers by hand, and files that are not whole."""

import ctypes
import gc
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import FRAMES, SIZE, clip_metadata, clip_onnx, constant_onnx, picture_tflite, save_onnx
from onnx import TensorProto, helper

from vidkd.base.errors import CheckpointError, ConfigError, MissingExtraError, VidkdError
from vidkd.runtime.networks import _SignalStack, compiled
from vidkd.runtime.opening import open_exported_classifier, open_network

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


def test_an_onnx_file_says_what_it_says_in_onnx_runtime(tmp_path: Path) -> None:
    path = clip_onnx(tmp_path / "net.onnx", clip_metadata())
    clips = np.random.default_rng(0).integers(0, 256, (5, 3, FRAMES, SIZE, SIZE)).astype(np.uint8)
    here, there = (open_exported_classifier(path, device="cpu", runtime=runtime)(clips) for runtime in ("onnxruntime", "openvino"))
    np.testing.assert_allclose(here.probabilities, there.probabilities, atol=1e-5)


def test_threads_and_precision_are_those_that_are_asked_for(tmp_path: Path) -> None:
    network = open_network(clip_onnx(tmp_path / "net.onnx"), threads=1, runtime="openvino")
    compiled = network._compiled  # type: ignore[attr-defined]
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_the_file_is_read_without_onnx_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip_onnx(tmp_path / "net.onnx", clip_metadata())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert json.loads(open_exported_classifier(path, runtime="openvino").metadata.to_json()) == clip_metadata()
    with pytest.raises(MissingExtraError, match="'onnxruntime' is not installed"):
        open_exported_classifier(path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vidkd\[openvino\]'"):
        open_exported_classifier(path, runtime="openvino")


def test_ports_have_the_names_of_the_file(tmp_path: Path) -> None:
    """OpenVINO drops what changes nothing, and gives a port the names of all that it stood for."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("images", "zzz", "also", "found")]
    nodes = [
        helper.make_node("Identity", ["images"], ["aaa"]),
        helper.make_node("Neg", ["aaa"], ["zzz"]),
        helper.make_node("Identity", ["zzz"], ["found"]),
        helper.make_node("Abs", ["zzz"], ["before"]),
        helper.make_node("Identity", ["before"], ["also"]),
    ]
    path = save_onnx(tmp_path / "net.onnx", helper.make_graph(nodes, "names", value[:1], value[1:]))
    network = open_network(path, runtime="openvino")
    assert [port.name for port in network.inputs] == ["images"]
    assert [port.name for port in network.outputs] == ["zzz", "also", "found"] == [port.name for port in open_network(path).outputs]
    found = network.run(np.full((2, 4), 3, np.float32), ["found", "also", "zzz"])
    assert [array[1, 0] for array in found] == [-3, 3, -3]


def refused(path: Path, kind: type[VidkdError] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        open_exported_classifier(path, runtime="openvino")
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_models(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The readers of other formats, which have much to say, are not tried on them."""
    path = tmp_path / "net.onnx"
    assert "model file not found" in refused(path)
    for content in (b"version https://git-lfs\noid sha256:0\n", b"\x08\x09"):
        path.write_bytes(content)
        refused(path)
    constant_onnx(path, {"out": np.zeros((1, 6, 6))}, inputs=0)
    assert "model has no input" in refused(path)
    assert capfd.readouterr().err == ""


def test_runtimes_that_do_not_run_a_file(tmp_path: Path) -> None:
    (tmp_path / "net.xml").touch()
    tflite = picture_tflite(tmp_path / "net.tflite", quantised=False)
    for path, runtime, lines in (
        (tmp_path / "net.xml", "onnxruntime", ("ONNX Runtime does not run .xml files here", ".onnx", "OpenVINO runs it")),
        (tflite, "onnxruntime", ("ONNX Runtime does not run .tflite files here", ".onnx", "LiteRT runs it")),
        (tflite, "openvino", ("OpenVINO does not run .tflite files here", ".onnx, .xml", "LiteRT runs it")),
    ):
        with pytest.raises(ConfigError) as caught:
            open_network(path, runtime=runtime)  # type: ignore[arg-type]
        assert caught.value.what == f"{lines[0]}: {path}"
        assert caught.value.lines == {"it runs": lines[1], "fix": f"name no runtime, and {lines[2]}"}
