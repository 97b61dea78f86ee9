"""A detector by its files: which belong together, what is recorded of them, and which of them need torch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from picture_model import METADATA, picture_model

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.detection.opening import ModelFiles

CFG = """
[net]
width=32
height=32
channels=3
[convolutional]
filters=18
size=3
stride=32
pad=1
activation=linear
[yolo]
mask=0,1,2
anchors=4,4,8,8,16,16
classes=1
num=3
"""


@pytest.fixture
def darknet(tmp_path: Path) -> dict[str, str]:
    from vidkd.models.darknet import Darknet, save_weights

    (tmp_path / "net.cfg").write_text(CFG)
    (tmp_path / "net.names").write_text("person\n")
    save_weights(Darknet.from_cfg(tmp_path / "net.cfg"), tmp_path / "net.weights")
    return {"model": str(tmp_path / "net.cfg"), "weights": str(tmp_path / "net.weights"), "names": str(tmp_path / "net.names")}


def test_names_are_taken_from_the_file_that_belongs_to_them(darknet, tmp_path):
    for missing in ("weights", "names"):
        with pytest.raises(ConfigError, match=f"a darknet model needs --{missing} too") as caught:
            ModelFiles(**{name: value for name, value in darknet.items() if name != missing}).open()
        assert caught.value.lines["fix"] == f"--{missing} F"
    with pytest.raises(ConfigError, match="--metadata means nothing to"):
        ModelFiles(**darknet, metadata="x.yaml").open()
    with pytest.raises(ConfigError, match="--names means nothing to"):
        ModelFiles(model=str(picture_model(tmp_path / "net.onnx")), names=darknet["names"]).open()


@pytest.mark.parametrize("model", ["net.pkl", "torchvision", "net"])
def test_other_kinds_of_files(model):
    with pytest.raises(ConfigError, match="not a kind of detector that is known") as caught:
        ModelFiles(model=model).open()
    assert caught.value.lines["known"] == ".cfg, .onnx, .xml, .tflite, torchvision:NAME, the folder of a run"


def test_how_frames_meet_a_darknet_input(darknet, tmp_path):
    stretched = ModelFiles(**darknet, resize="stretch", device="cpu")
    assert stretched.open().resize == "stretch"
    assert ModelFiles(**darknet, device="cpu").open().resize == "darknet"
    assert stretched.record()["resize"] == "stretch"
    with pytest.raises(ConfigError, match="unknown way of resizing 'strech'") as caught:
        ModelFiles(**darknet, resize="strech", model_flag="--oracle", flags="oracle-").open()
    assert caught.value.lines["flag"] == "--oracle-resize"
    assert caught.value.lines["did you mean"] == "stretch"
    with pytest.raises(ConfigError, match="--resize means nothing to"):
        ModelFiles(model=str(picture_model(tmp_path / "net.onnx")), resize="stretch").open()


def test_what_runs_a_darknet_model(darknet, tmp_path):
    eager, onnx_runtime = ModelFiles(**darknet, device="cpu"), ModelFiles(**darknet, runtime="onnx", device="cpu")
    assert (eager.open().runtime, onnx_runtime.open().runtime) == ("eager", "onnx")
    assert "runtime" not in ModelFiles(**darknet, runtime="eager").record()
    assert onnx_runtime.record()["runtime"] == "onnx"
    assert len(onnx_runtime.open()(np.zeros((2, 20, 30, 3), np.uint8))) == 2
    with pytest.raises(ConfigError, match="--runtime onnx means nothing to") as caught:
        ModelFiles(model=str(picture_model(tmp_path / "net.onnx")), runtime="onnx").open()
    assert caught.value.lines["fix"] == "--runtime onnxruntime or openvino, or leave it out"
    with pytest.raises(ConfigError, match=r"--oracle-runtime openvino means nothing to .*net\.cfg") as caught:
        ModelFiles(**darknet, runtime="openvino", flags="oracle-").open()
    assert caught.value.lines["fix"] == "--oracle-runtime eager or onnx, or leave it out"
    with pytest.raises(ConfigError, match="--runtime means nothing to torchvision"):
        ModelFiles(model="torchvision:ssdlite320_mobilenet_v3_large", weights="w.pth", runtime="openvino").open()


def test_what_runs_an_exported_file(tmp_path):
    """Recorded is what changes the boxes, by as much as rounding: a library that would not run the file by itself."""
    pytest.importorskip("openvino")
    path = str(picture_model(tmp_path / "net.onnx"))
    row = (0.0, 0.2, 0.6, 1.0, 0.8, 1.0)
    frame = (np.asarray([*row, *[0] * 42]) * 255).round().astype(np.uint8).reshape(1, 4, 4, 3)
    (by_default,) = ModelFiles(model=path, device="cpu").open()(frame)
    (found,) = ModelFiles(model=path, device="cpu", threads=1, runtime="openvino").open()(frame)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes, by_default.boxes, atol=1e-6)
    plain = ModelFiles(model=path).record()
    assert "runtime" not in plain
    assert ModelFiles(model=path, runtime="onnxruntime").record() == plain
    assert ModelFiles(model=path, runtime="openvino").record() == {**plain, "runtime": "openvino"}
    (tmp_path / "net.bin").write_bytes(b"weights")
    (tmp_path / "net.xml").write_bytes(b"network")
    xml = [ModelFiles(model=str(tmp_path / "net.xml"), runtime=runtime).record() for runtime in (None, "openvino")]
    assert xml[0] == xml[1]


def test_a_detector_of_torchvision(tmp_path):

    from vidkd.models.torchvision_detectors import build_detector

    name = "ssdlite320_mobilenet_v3_large"
    torch.save(build_detector(name, 91, score_threshold=0, nms_iou=None).state_dict(), tmp_path / "weights.pth")
    files = ModelFiles(model=f"torchvision:{name}", weights=str(tmp_path / "weights.pth"), score=0.5, nms_iou=0.3, device="cpu")
    detector = files.open()
    assert len(detector.class_names) == 80
    assert (detector.net.score_thresh, detector.net.nms_thresh) == (0.5, 0.3)
    record = files.record()
    assert record["model"] == f"torchvision:{name}"
    assert record["weights"].startswith("sha256 ")
    with pytest.raises(ConfigError, match="a detector of torchvision needs --oracle-weights too") as caught:
        ModelFiles(model=f"torchvision:{name}", flags="oracle-").open()
    assert caught.value.lines["fix"] == "--oracle-weights F"
    with pytest.raises(ConfigError, match="unknown detector of torchvision 'ssdlite320'") as caught:
        ModelFiles(model="torchvision:ssdlite320", weights=str(tmp_path / "weights.pth"), device="cpu").open()
    assert caught.value.lines["did you mean"] == name
    with pytest.raises(ConfigError, match="--resize means nothing to"):
        ModelFiles(model=f"torchvision:{name}", weights="w.pth", resize="stretch").open()


def test_a_run(darknet, tmp_path):

    from vidkd.detection.saved import detector_payload
    from vidkd.models.darknet import Darknet
    from vidkd.models.saved import load_classifier

    net = Darknet.from_cfg(darknet["model"])
    run = tmp_path / "runs" / "small"
    (run / "checkpoints").mkdir(parents=True)
    content = {"student": detector_payload(net, ["person"]), "run": {"data": {"transform": {"resize": "top_left"}}}}
    torch.save(content, run / "checkpoints" / "last.pt")
    detector = ModelFiles(model=str(run), device="cpu").open()
    assert (detector.class_names, detector.resize) == (("person",), "top_left")
    assert ModelFiles(model=str(run / "checkpoints" / "last.pt"), resize="stretch", device="cpu").open().resize == "stretch"
    assert ModelFiles(model=str(run)).record()["model"].startswith("sha256 ")
    with pytest.raises(ConfigError, match="--weights means nothing to"):
        ModelFiles(model=str(run), weights="x.weights").open()
    with pytest.raises(CheckpointError, match="checkpoint not found"):
        ModelFiles(model=str(tmp_path / "runs"), device="cpu").open()
    with pytest.raises(CheckpointError, match="holds a detector, not a classifier of clips") as refused:
        load_classifier(run)
    assert refused.value.lines["fix"] == "vidkd detect --model takes it"


def test_what_is_recorded_changes_with_every_file(darknet, tmp_path):
    record = ModelFiles(**darknet, score=0.5).record()
    assert set(record) == {"model", "weights", "names", "score", "nms_iou", "resize"}
    for name in darknet:
        Path(darknet[name]).write_bytes(Path(darknet[name]).read_bytes() + b"\n")
        changed = ModelFiles(**darknet, score=0.5).record()
        assert {key for key in record if changed[key] != record[key]} == {name}
        record = changed
    network = ModelFiles(model=str(picture_model(tmp_path / "net.onnx")))
    before = network.record()
    (tmp_path / "net.yaml").write_text(METADATA.replace("dog", "fox"))
    assert {key for key, value in network.record().items() if value != before[key]} == {"metadata"}


def test_weights_next_to_an_onnx_file_count(tmp_path):
    model = onnx.load(picture_model(tmp_path / "net.onnx"))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    network = ModelFiles(model=str(tmp_path / "net.onnx"))
    before = network.record()
    (tmp_path / "net.data").write_bytes(b"others" * 4)
    assert {key for key, value in network.record().items() if value != before[key]} == {"weights net.data"}


@pytest.mark.parametrize(
    ("which", "what", "flag"),
    [("model", "model file", "--oracle"), ("weights", "file of weights", "--oracle-weights")],
)
def test_a_file_that_is_not_there_is_told_by_its_flag(which, what, flag, darknet):
    path = Path(darknet[which])
    given = {**darknet, which: str(path.with_stem("nett"))}
    with pytest.raises(CheckpointError) as caught:
        ModelFiles(**given, flags="oracle-", model_flag="--oracle").open()
    assert caught.value.what == f"{what} not found: {path.with_stem('nett')}"
    assert caught.value.lines == {"flag": flag, "did you mean": str(path), "fix": "name a file that is there"}
    with pytest.raises(CheckpointError, match="cannot read model file"):
        ModelFiles(**given).record()
