"""Models of every kind opened to answer on so many threads."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from picture_model import picture_model
from speed_models import TINY_CLASSES, tiny_checkpoint, tiny_classifier

from vidkd.base.errors import ConfigError
from vidkd.bench.speed.accuracy import judge_clips, shown_clips
from vidkd.bench.speed.config import DataSpec, ModelSpec, ShapeSpec
from vidkd.bench.speed.cost import cost_of
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
