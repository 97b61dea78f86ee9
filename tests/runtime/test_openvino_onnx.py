"""An .onnx file run by OpenVINO: what ONNX Runtime makes of it, without ONNX Runtime, and files that are refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from clip_model import FRAMES, SIZE, clip_metadata, clip_onnx
from model_files import constant_onnx, picture_tflite, save_onnx
from onnx import TensorProto, helper, numpy_helper

from vidkd.base.errors import CheckpointError, ConfigError, MissingExtraError, VidkdError
from vidkd.runtime.opening import open_exported_classifier, open_network

pytest.importorskip("openvino")


def clips(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, FRAMES, SIZE, SIZE)).astype(np.uint8)


def convolutions_onnx(path: Path, *, integers: bool) -> Path:
    """Two convolutions over time and space and a mean, in integers as the quantiser of ONNX Runtime writes them, or in float."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Cast", ["clip"], ["values0"], to=TensorProto.FLOAT)]
    weights = []

    def put(name: str, array: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(array, name))
        return name

    for number, (channels, scale) in enumerate([(3, 1.0), (8, 3.71)]):
        seen, kernel = f"values{number}", rng.integers(-127, 128, (8 if number == 0 else 3, channels, 3, 3, 3)).astype(np.int8)
        steps = rng.uniform(1e-4, 2e-4, len(kernel)).astype(np.float32)
        if integers:
            ends = [put(f"scale{number}", np.asarray(scale, np.float32)), put(f"zero{number}", np.asarray(0, np.uint8))]
            nodes.append(helper.make_node("QuantizeLinear", [seen, *ends], [f"eight{number}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"eight{number}", *ends], [f"seen{number}"]))
            kinds = [put(f"kernel{number}", kernel), put(f"steps{number}", steps), put(f"middle{number}", np.zeros(len(kernel), np.int8))]
            nodes.append(helper.make_node("DequantizeLinear", kinds, [f"weights{number}"], axis=0))
            seen = f"seen{number}"
        else:
            put(f"weights{number}", kernel * steps[:, None, None, None, None])
        nodes.append(helper.make_node("Conv", [seen, f"weights{number}"], [f"sums{number}"], kernel_shape=[3, 3, 3], pads=[1] * 6))
        nodes.append(helper.make_node("Relu", [f"sums{number}"], [f"values{number + 1}"]))
    nodes.append(helper.make_node("ReduceMean", ["values2"], ["logits"], axes=[2, 3, 4], keepdims=0))
    ports = [
        [helper.make_tensor_value_info("clip", TensorProto.UINT8, ["batch", 3, FRAMES, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    ]
    return save_onnx(path, helper.make_graph(nodes, "convolutions", *ports, weights), json.dumps(clip_metadata(map_shift_cells=None)))


def kinds_of_convolutions(path: Path) -> list[str]:
    network = open_network(path, runtime="openvino")
    operations = [operation.get_rt_info() for operation in network._compiled.get_runtime_model().get_ops()]  # type: ignore[attr-defined]
    return [info["runtimePrecision"].astype(str) for info in operations if info["layerType"].astype(str) == "Convolution"]


@pytest.mark.parametrize("integers", [False, True])
def test_what_onnx_runtime_says(integers: bool, tmp_path: Path) -> None:
    """On one clip, on several, and on one again."""
    path = convolutions_onnx(tmp_path / "net.onnx", integers=integers)
    here, there = (open_exported_classifier(path, device="cpu", threads=1, runtime=runtime) for runtime in ("onnxruntime", "openvino"))
    for count in (1, 5, 1):
        one, two = here(clips(count, seed=count)).probabilities, there(clips(count, seed=count)).probabilities
        assert one.shape == (count, 3)
        assert np.ptp(one, axis=1).min() > 0.05
        np.testing.assert_allclose(one, two, atol=1e-5)
    assert set(kinds_of_convolutions(path)) == ({"u8"} if integers else {"f32"})


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


def test_an_operation_that_openvino_does_not_know_is_named(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("images", "found")]
    graph = helper.make_graph([helper.make_node("Nonsense", ["images"], ["found"])], "unknown", value[:1], value[1:])
    text = refused(save_onnx(tmp_path / "net.onnx", graph))
    assert "not a model that OpenVINO can run" in text
    assert "No conversion rule found for operations: Nonsense" in text


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


def test_devices_and_threads_that_are_not_there(tmp_path: Path) -> None:
    path = clip_onnx(tmp_path / "net.onnx", clip_metadata())
    with pytest.raises(ConfigError, match="cannot use device 'cuda' in OpenVINO"):
        open_exported_classifier(path, device="cuda", runtime="openvino")
