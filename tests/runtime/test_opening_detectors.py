import os
import sys
import zipfile

import numpy as np
import onnx
import pytest
from model_files import constant_onnx, external_onnx, picture, picture_metadata, picture_onnx, picture_tflite
from onnx import TensorProto, helper, numpy_helper
from started import run_to_end

from vidkd.base.errors import CheckpointError, ConfigError, MissingExtraError
from vidkd.runtime import networks
from vidkd.runtime.networks import external_files
from vidkd.runtime.opening import open_detector, open_network

ROWS = [(0.2, 0.4, 0.6, 1.0, 0.8, 1), (0, 0.2, 0.4, 0.6, 0.6, 0)]


def check(detector) -> None:
    found, nothing = detector(np.stack([picture(*ROWS), picture()]))
    np.testing.assert_allclose(found.boxes, np.asarray(ROWS)[:, :4] * 4, atol=0.01)
    np.testing.assert_allclose(found.scores, [0.8, 0.6], atol=1e-3)
    assert found.labels.tolist() == [1, 0]
    assert len(nothing) == 0


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_onnx_files_of_open_and_fixed_batch_give_the_same(tmp_path, batch):
    check(open_detector(picture_onnx(tmp_path / "net.ONNX", batch=batch), metadata=picture_metadata(), device="cpu", threads=1))


@pytest.mark.parametrize("batch", [1, 3, -1])
@pytest.mark.parametrize("quantised", [False, True])
def test_tflite_files_give_the_same_quantised_or_not(tmp_path, quantised, batch):
    check(open_detector(picture_tflite(tmp_path / "net.tflite", quantised=quantised, batch=batch), metadata=picture_metadata(), threads=1))


def test_metadata_travel_inside_both_kinds_of_file(tmp_path):
    text = picture_metadata().to_json()
    check(open_detector(picture_onnx(tmp_path / "net.onnx", embedded=text)))
    path = picture_tflite(tmp_path / "net.tflite", quantised=True)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vidkd.json", text)
    check(open_detector(path))


def test_metadata_archives_that_cannot_be_read_are_refused(tmp_path):
    path = picture_tflite(tmp_path / "net.tflite", quantised=True)
    whole = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vidkd.json", "{'a': 1}")
    path.write_bytes(path.read_bytes().replace(b"{'a': 1}", b"{'a': 2}"))  # against its checksum
    with pytest.raises(CheckpointError, match="archive of metadata in the model is damaged"):
        open_network(path)
    path.write_bytes(whole)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "cat")
    assert open_network(path).embedded is None


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_files_that_are_no_models_are_refused(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    with pytest.raises(CheckpointError, match="model file not found"):
        open_network(path)
    picture_onnx(path) if suffix == ".onnx" else picture_tflite(path, quantised=False)
    whole = path.read_bytes()
    for content in (b"", b"version https://git-lfs\noid sha256:0\n", os.urandom(3000), whole[: len(whole) // 2], whole[: len(whole) - 100]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            open_network(path)
        assert str(path) in str(caught.value)


def test_a_model_without_input_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="model has no input"):
        open_network(constant_onnx(tmp_path / "net.onnx", {"out": np.zeros((1, 6, 6))}, inputs=0))


def test_weights_next_to_the_model_are_read(tmp_path):
    np.asarray([1, 2], np.float32).tofile(tmp_path / "weights.bin")
    network = open_network(external_onnx(tmp_path / "net.onnx", "weights.bin"))
    assert external_files(tmp_path / "net.onnx") == {"weights.bin"}
    assert network.run(np.asarray([10, 20], np.float32), ["sums"])[0].tolist() == [11, 22]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_sizes_that_the_file_computes_are_allowed(tmp_path, runtime):
    """Split -> Concat -> ConstantOfShape is what exporters write for a tensor of zeros that takes the shape of another."""
    pytest.importorskip(runtime)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 2]) for name in ("images", "found")]
    nodes = [
        helper.make_node("Split", ["sides"], ["height", "width"], num_outputs=2),
        helper.make_node("Concat", ["width", "height"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"], value=numpy_helper.from_array(np.asarray([2], np.float32))),
        helper.make_node("Add", ["images", "zeros"], ["found"]),
    ]
    graph = helper.make_graph(nodes, "sizes", value[:1], value[1:], [numpy_helper.from_array(np.asarray([2, 3], np.int64), "sides")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx")
    network = open_network(tmp_path / "net.onnx", runtime=runtime)
    assert (network.run(np.ones((1, 3, 2), np.float32), ["found"])[0] == 3).all()


def test_a_run_that_fails_is_named(tmp_path):
    network = open_network(picture_onnx(tmp_path / "net.onnx"))
    with pytest.raises(CheckpointError, match=r"model fails on an input of shape \(1, 4, 4, 2\)"):
        network.run(np.zeros((1, 4, 4, 2), np.float32), ["found"])
    network = open_network(picture_tflite(tmp_path / "net.tflite", quantised=False))
    with pytest.raises(CheckpointError, match=r"model fails on an input of shape \(1, 4, 4, 2\)"):
        network.run(np.zeros((1, 4, 4, 2), np.float32), ["found"])


def test_other_kinds_of_file_are_refused_with_those_that_are_known(tmp_path):
    with pytest.raises(ConfigError, match=r"runs without torch: .*yolo.weights\n.*\.onnx, \.xml, \.tflite here; darknet \.cfg"):
        open_detector(tmp_path / "yolo.weights")


@pytest.mark.parametrize(
    ("override", "device", "expected"),
    [
        (None, "auto", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("1", "cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("0", "cuda", [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]),
        ("0", "cpu", ["CPUExecutionProvider"]),
    ],
)
def test_cuda_is_taken_where_there_is_one_and_tf32_is_off_where_the_user_has_turned_it_off(monkeypatch, override, device, expected):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert networks._providers(device, ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]) == expected
    assert networks._providers(device, ["CPUExecutionProvider"]) == ["CPUExecutionProvider"]


def test_devices_and_threads_that_are_not_there_are_refused(tmp_path, monkeypatch):
    path = picture_onnx(tmp_path / "net.onnx")
    for device in ("tpu", "CPU"):
        with pytest.raises(ConfigError, match=f"cannot use device '{device}' for an ONNX file"):
            open_network(path, device=device)
    with pytest.raises(ConfigError, match="cannot use device 'cuda' in LiteRT"):
        open_network(picture_tflite(tmp_path / "net.tflite", quantised=False), device="cuda")
    with pytest.raises(ConfigError, match="cannot use device 'cuda' in OpenVINO"):
        open_network(path, device="cuda", runtime="openvino")
    with pytest.raises(ConfigError, match="this ONNX Runtime is built without CUDA"):
        open_network(path, device="cuda")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("net.onnx", "onnxruntime", "detect"),
        ("net.tflite", "ai_edge_litert.interpreter", "litert"),
        ("net.xml", "openvino", "openvino"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, name, module, extra):
    (tmp_path / name).touch()
    for key in (module, module.split(".")[0]):
        monkeypatch.setitem(sys.modules, key, None)
    package = module.split(".")[0].replace("_", "-")
    text = rf"'{package}' is not installed\n.*pip install 'vidkd\[{extra}\]' +\(or pip install {package}, where vidkd .* without torch\)"
    with pytest.raises(MissingExtraError, match=text):
        open_network(tmp_path / name)


CODE = """
import sys
for name in ("torch", "torchvision", "decord", "av", "jsonargparse", "supervision", "lightning_fabric"):
    sys.modules[name] = None
import numpy as np
from vidkd.runtime.formats import write_csv
from vidkd.runtime.opening import open_detector
frames = np.full((1, 4, 4, 3), 255, np.uint8)
frames[0, 0, 0, :2] = 0
for path in sys.argv[1:]:
    detector = open_detector(path)
    write_csv(sys.stdout, detector(frames), detector.class_names)
"""


def test_a_detector_runs_and_its_results_are_written_without_torch(tmp_path):
    paths = [
        picture_onnx(tmp_path / "net.onnx", embedded=picture_metadata().to_json()),
        picture_tflite(tmp_path / "net.tflite", quantised=True),
    ]
    (tmp_path / "net.yaml").write_text(picture_metadata().to_json(), encoding="utf-8")  # JSON is YAML
    done = run_to_end([sys.executable, "-c", CODE, *map(str, paths)], check=True)
    assert done.stdout.splitlines()[1::2] == ["0,,0.0,0.0,4.0,4.0,1.0,dog,"] * 2
