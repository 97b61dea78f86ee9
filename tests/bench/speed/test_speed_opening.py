"""Models of every kind opened to answer on so many threads, also without anything of vidkd around the network."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from picture_model import picture_model
from speed_models import TINY_CLASSES, tiny_checkpoint, tiny_classifier

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.bench.speed.accuracy import judge_clips, shown_clips
from vidkd.bench.speed.config import DataSpec, ModelSpec, ShapeSpec
from vidkd.bench.speed.cost import cost_of
from vidkd.bench.speed.direct import NAMES
from vidkd.bench.speed.end_to_end import ClipReader
from vidkd.bench.speed.opening import clip_input, frame_input, open_model
from vidkd.engine.evaluate import judge
from vidkd.models.saved import save_classifier


def test_a_checkpoint_and_its_exported_file_answer_alike(checkpoint: Path, exported: Path) -> None:
    both = [open_model(ModelSpec(checkpoint=str(path)), threads=1) for path in (checkpoint, exported)]
    clips = both[0].input.noise(3, seed=1)
    assert clips.shape == (3, 3, 4, 32, 32)
    answers = [model.answer(clips).probabilities for model in both]  # type: ignore[attr-defined]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)
    assert [model.runs_on for model in both] == ["torch", "ONNX Runtime"]
    assert both[0].input == both[1].input == clip_input(["rgb"], 4, 32)
    assert both[0].classes == both[1].classes == TINY_CLASSES
    assert both[1].recorded_parameters == sum(parameter.numel() for parameter in both[0].network.parameters())
    assert both[1].network is None


def test_a_flow_network_sees_displacements(tmp_path: Path) -> None:
    model = open_model(ModelSpec(checkpoint=str(tiny_checkpoint(tmp_path / "flow.pt", view="flow"))), threads=1)
    noise = model.input.noise(2, seed=0)
    assert (noise.shape, noise.dtype) == ((2, 2, 4, 32, 32), np.float32)
    assert noise.min() < 0 < noise.max()


def test_each_model_begins_on_its_own_threads(checkpoint: Path) -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        one, two = (open_model(ModelSpec(checkpoint=str(checkpoint)), threads=count) for count in (1, 2))
        for model, count in ((one, 1), (two, 2), (one, 1)):
            model.begin()
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (count, count)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def test_a_backbone_has_the_shape_that_is_asked_for_and_nothing_learned() -> None:
    spec = ModelSpec(backbone="tiny3d")
    small = open_model(spec, threads=1, shape=ShapeSpec(frames=4, size=16, classes=5))
    assert small.input == clip_input(["rgb"], 4, 16)
    assert not small.trained
    assert small.answer(small.input.noise(2, 0)).probabilities.shape == (2, 5)  # type: ignore[attr-defined]
    assert open_model(spec, threads=1).input == clip_input(["rgb"], 8, 64), "what tiny3d declares"


@pytest.mark.slow
def test_a_compiled_network_answers_as_it_did(checkpoint: Path) -> None:
    plain, compiled = (open_model(ModelSpec(checkpoint=str(checkpoint), compile=flag), threads=1) for flag in (False, True))
    clips = plain.input.noise(3, 0)
    for count in (1, 3):
        answers = [model.answer(clips[:count]).probabilities for model in (plain, compiled)]  # type: ignore[attr-defined]
        np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    assert compiled.runs_on == "torch.compile"
    assert compiled.network is not compiled.model


def test_a_network_that_cannot_be_compiled_is_told_and_not_run_as_it_is(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: torch.nn.Module, **_: object) -> torch.nn.Module:
        network.forward = lambda *_: (_ for _ in ()).throw(RuntimeError("no C++ compiler"))  # type: ignore[method-assign]
        return network

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError, match=r"torch.compile cannot compile .*rgb.pt") as error:
        open_model(ModelSpec(checkpoint=str(checkpoint), compile=True), threads=1)
    assert "no C++ compiler" in str(error.value)


def test_a_detector_is_shown_frames(tmp_path: Path) -> None:
    spec = ModelSpec(detector=str(picture_model(tmp_path / "picture.onnx")))
    model = open_model(spec, threads=1, shape=ShapeSpec(height=6, width=8))
    assert (model.kind, model.runs_on, model.classes) == ("detector", "ONNX Runtime", ("cat", "dog"))
    assert model.input == frame_input(6, 8)
    assert len(model.answer(model.input.noise(2, 0))) == 2  # type: ignore[arg-type]


def test_what_runs_an_exported_file_is_chosen(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    files = {"checkpoint": exported, "detector": picture_model(tmp_path / "picture.onnx")}
    for kind, path in files.items():
        specs = [ModelSpec(**{kind: str(path), "runtime": runtime}) for runtime in (None, "onnxruntime", "openvino")]  # type: ignore[arg-type]
        models = [open_model(spec, threads=1) for spec in specs]
        assert [model.runs_on for model in models] == ["ONNX Runtime", "ONNX Runtime", "OpenVINO"]
        samples = models[0].input.noise(3, 0)
        answers: list = [model.answer(samples) for model in models]
        if kind == "checkpoint":
            for other in answers[1:]:
                np.testing.assert_allclose(answers[0].probabilities, other.probabilities, atol=1e-4)
        else:
            assert [len(found) for found in answers[0]] == [len(found) for found in answers[2]]
    (tmp_path / "net.tflite").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"ONNX Runtime does not run \.tflite files here"):
        open_model(ModelSpec(detector=str(tmp_path / "net.tflite"), runtime="onnxruntime"), threads=1)


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of every session that is opened from now on, whatever was asked for; the processor does the work."""
    runtime = pytest.importorskip("onnxruntime")
    opens, started = runtime.InferenceSession, ["CUDAExecutionProvider", "CPUExecutionProvider"]

    class Session:
        def __init__(self, path: str, options: object, *, providers: list[str], **_: object) -> None:
            assert providers == ["CUDAExecutionProvider", "CPUExecutionProvider"], "auto asks for CUDA where it is"
            self._session = opens(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return started

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

    monkeypatch.setattr(runtime, "InferenceSession", Session)
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    return started


def test_an_exported_file_is_told_to_run_where_its_session_has_started(exported: Path, tmp_path: Path, providers: list[str]) -> None:
    """On a GPU it is still the clock of the host that times it: the answer is there when the call returns."""
    specs = [ModelSpec(checkpoint=str(exported)), ModelSpec(detector=str(picture_model(tmp_path / "picture.onnx")))]
    for spec in specs:
        model = open_model(spec, threads=1)
        assert (model.runs_on, model.device) == ("ONNX Runtime, cuda", "cpu")
    providers.remove("CUDAExecutionProvider")  # it could not be started, and ONNX Runtime went on without
    for spec in specs:
        model = open_model(spec, threads=1)
        assert (model.runs_on, model.device) == ("ONNX Runtime", "cpu")
        with pytest.raises(ConfigError, match="could not start CUDA"):
            open_model(spec, threads=1, device="cuda")


# --- two streams ---


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    return str(tiny_checkpoint(tmp_path / "rgb.pt", 0)), str(tiny_checkpoint(tmp_path / "flow.pt", 1, "flow"))


@pytest.mark.parametrize("flow_first", [False, True])
def test_two_streams_answer_by_the_mean_of_both_on_the_same_window(pair: tuple[str, str], tiny_root: Path, flow_first: bool) -> None:
    rgb, flow = (open_model(ModelSpec(checkpoint=name), threads=1) for name in pair)
    both = open_model(ModelSpec(checkpoint=pair[flow_first], ensemble_with=pair[not flow_first]), threads=1)
    assert both.input.words == "rgb 4x32x32 and flow 4x32x32"
    spec = DataSpec(root=str(tiny_root))
    readers = [ClipReader(one, spec, *shown_clips(one, spec)) for one in (both, rgb, flow)]
    for _ in range(3):
        plain = readers[0].read_without_flow()
        sample, images, motion = (reader.read() for reader in readers)
        assert plain is not None
        np.testing.assert_array_equal(plain, images)
        np.testing.assert_array_equal(sample, np.concatenate([images, motion], axis=1))
        mean = (rgb.answer(images).probabilities + flow.answer(motion).probabilities) / 2  # type: ignore[attr-defined]
        np.testing.assert_allclose(both.answer(sample), mean, atol=1e-12)
    assert both.input.noise(2, 0).shape == (2, 5, 4, 32, 32)


def test_two_streams_are_judged_by_their_mean_and_cost_what_both_cost(pair: tuple[str, str], tiny_root: Path) -> None:
    spec = ModelSpec(checkpoint=pair[0], ensemble_with=pair[1])
    single, both = [open_model(ModelSpec(checkpoint=name), threads=1) for name in pair], open_model(spec, threads=1)
    data, clips = shown_clips(both, DataSpec(root=str(tiny_root)))
    by_hand = [judge(one.model, clips, "test", data, TINY_CLASSES, device=next(one.model.parameters()).device).fullest for one in single]
    accuracy = judge_clips(both, DataSpec(root=str(tiny_root)), data, clips)
    assert accuracy.cell is not None
    predicted = (by_hand[0].probabilities + by_hand[1].probabilities).argmax(1)
    np.testing.assert_array_equal(accuracy.cell.correct, predicted == by_hand[0].labels)
    costs = [cost_of(ModelSpec(checkpoint=name), one) for name, one in zip(pair, single, strict=True)]
    found = cost_of(spec, both)
    for name in ("parameters", "macs", "macs_torch", "file_bytes"):
        assert getattr(found, name) == sum(getattr(cost, name) for cost in costs)


def test_an_exported_file_may_be_a_stream_and_its_unknown_costs_stay_unknown(pair: tuple[str, str], exported: Path) -> None:
    spec = ModelSpec(checkpoint=str(exported), ensemble_with=pair[1])
    both = open_model(spec, threads=1)
    assert both.runs_on == "ONNX Runtime; torch"
    assert both.answer(both.input.noise(2, 0)).shape == (2, 3)  # type: ignore[attr-defined]
    assert cost_of(spec, both).macs is None


def test_what_are_no_two_streams_is_refused(pair: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one that sees flow"):
        open_model(ModelSpec(checkpoint=pair[0], ensemble_with=pair[0]), threads=1)
    other = tiny_checkpoint(tmp_path / "other.pt", 1, "flow", ("Right", "Down", "Shrink"))
    with pytest.raises(ConfigError, match="other classes"):
        open_model(ModelSpec(checkpoint=pair[0], ensemble_with=str(other)), threads=1)
    saved = tiny_classifier(1, "flow")
    saved.run["data"]["window"] = {"frames": 4, "stride": 1}
    save_classifier(tmp_path / "stride.pt", saved)
    with pytest.raises(ConfigError, match="other window"):
        open_model(ModelSpec(checkpoint=pair[0], ensemble_with=str(tmp_path / "stride.pt")), threads=1)


def convolution(path: Path, batch: int | str = "batch", side: int | str = 6) -> Path:
    """(B, 2, 6, 6) -> (B, 3, 4, 4)."""
    weights = np.arange(3 * 2 * 9, dtype=np.float32).reshape(3, 2, 3, 3) / 50
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "weights"], ["found"])],
        "convolution",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 2, side, 6])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, [batch, 3, "h", 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def by_hand(batch: np.ndarray) -> np.ndarray:
    weights = np.arange(3 * 2 * 9, dtype=np.float32).reshape(3, 2, 3, 3) / 50
    patches = np.lib.stride_tricks.sliding_window_view(batch, (3, 3), axis=(2, 3))
    return np.einsum("bcyxij,ocij->boyx", patches, weights)


@pytest.mark.parametrize("library", sorted(NAMES))
def test_it_is_the_network_that_answers(library: str, tmp_path: Path) -> None:
    spec = ModelSpec(detector=str(convolution(tmp_path / "c.onnx")), direct=library, input=[2, 6, 6])  # type: ignore[arg-type]
    model = open_model(spec, threads=1)
    batch = model.input.noise(3, seed=1)
    assert (batch.shape, batch.dtype) == ((3, 2, 6, 6), np.float32)
    (found,) = model.answer(batch)  # type: ignore[misc]
    np.testing.assert_allclose(found, by_hand(batch), rtol=1e-4)
    assert not model.trained
    assert model.runs_on.endswith("called directly")
    cost = cost_of(spec, model)
    assert (cost.parameters, cost.macs, cost.file_bytes) == (None, None, (tmp_path / "c.onnx").stat().st_size)


@pytest.mark.parametrize("library", sorted(NAMES))
def test_a_file_of_fixed_batch_is_run_in_pieces(library: str, tmp_path: Path) -> None:
    spec = ModelSpec(detector=str(convolution(tmp_path / "c.onnx", batch=2)), direct=library, input=[2, 6, 6])  # type: ignore[arg-type]
    model = open_model(spec, threads=1)
    batch = model.input.noise(3, seed=1)
    pieces = model.answer(batch)
    assert [piece[0].shape[0] for piece in pieces] == [2, 2]  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.concatenate([piece[0] for piece in pieces])[:3], by_hand(batch), rtol=1e-4)  # type: ignore[attr-defined]


@pytest.mark.data
def test_a_published_detector_of_fixed_batch_in_both_libraries(real_data: Path) -> None:
    """Its operations hold its batch of one, which OpenCV finds out by failing."""
    path = real_data / "weights" / "yolox_nano" / "yolox_nano_raw_0.1.1.onnx"
    found = []
    for library in NAMES:
        model = open_model(ModelSpec(detector=str(path), direct=library, input=[3, 416, 416]), threads=1)  # type: ignore[arg-type]
        found.append(np.concatenate([piece[0] for piece in model.answer(model.input.noise(3, seed=1))]))  # type: ignore[attr-defined]
    assert found[0].shape[0] == 3
    np.testing.assert_allclose(found[0], found[1], atol=1e-2)


def test_sides_that_nobody_tells_are_asked_for(tmp_path: Path) -> None:
    path = convolution(tmp_path / "c.onnx", side="height")
    for library in NAMES:
        with pytest.raises(ConfigError, match="sides of the input that the file leaves open") as error:
            open_model(ModelSpec(detector=str(path), direct=library), threads=1)  # type: ignore[arg-type]
        assert "input: [3, 416, 416]" in str(error.value)
    text = open_model(ModelSpec(detector=str(path), direct="onnxruntime", input=[2, 9, 6]), threads=1)
    assert (text.input.shape, text.input.words) == ((2, 9, 6), "float32 2x9x6")
    with pytest.raises(ConfigError, match="not the input of"):
        open_model(ModelSpec(detector=str(path), direct="onnxruntime", input=[3, 9, 6]), threads=1)


def test_what_cannot_be_called_is_refused(tmp_path: Path) -> None:
    whole = convolution(tmp_path / "c.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    for library in NAMES:
        for name, text in (("half.onnx", "half.onnx"), ("none.onnx", "model file not found")):
            with pytest.raises(CheckpointError, match=text):
                open_model(ModelSpec(detector=str(tmp_path / name), direct=library, input=[2, 6, 6]), threads=1)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="cannot use device 'cuda'"):
            open_model(ModelSpec(detector=str(tmp_path / "c.onnx"), direct=library, input=[2, 6, 6]), threads=1, device="cuda")  # type: ignore[arg-type]
