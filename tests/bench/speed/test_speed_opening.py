"""Models of every kind opened to answer on so many threads."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from picture_model import picture_model
from speed_models import TINY_CLASSES, tiny_checkpoint
from started import run_to_end

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.bench.speed.config import ModelSpec, ShapeSpec
from vidkd.bench.speed.opening import ClipInput, FrameInput, open_model


def test_a_checkpoint_and_its_exported_file_answer_alike(checkpoint: Path, exported: Path) -> None:
    both = [open_model(ModelSpec(checkpoint=str(path)), threads=1) for path in (checkpoint, exported)]
    clips = both[0].input.noise(3, seed=1)
    assert clips.shape == (3, 3, 4, 32, 32)
    answers = [model.answer(clips).probabilities for model in both]  # type: ignore[attr-defined]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)
    assert [model.runs_on for model in both] == ["torch", "ONNX Runtime"]
    assert both[0].input == both[1].input == ClipInput(view="rgb", frames=4, size=32)
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
    assert small.input == ClipInput(view="rgb", frames=4, size=16)
    assert not small.trained
    assert small.answer(small.input.noise(2, 0)).probabilities.shape == (2, 5)  # type: ignore[attr-defined]
    assert open_model(spec, threads=1).input == ClipInput(view="rgb", frames=8, size=64), "what tiny3d declares"


def test_lower_precision_changes_the_answer_a_little(checkpoint: Path) -> None:
    full, half = (open_model(ModelSpec(checkpoint=str(checkpoint), amp=amp), threads=1) for amp in (None, "bfloat16"))
    clips = full.input.noise(2, 0)
    difference = np.abs(full.answer(clips).probabilities - half.answer(clips).probabilities).max()  # type: ignore[attr-defined]
    assert 0 < difference < 0.1
    assert half.runs_on == "torch, bfloat16"


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
    assert model.input == FrameInput(height=6, width=8)
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
        assert (model.runs_on, model.device, model.clock_device) == ("ONNX Runtime, cuda", "cuda", "cpu")
    providers.remove("CUDAExecutionProvider")  # it could not be started, and ONNX Runtime went on without
    for spec in specs:
        model = open_model(spec, threads=1)
        assert (model.runs_on, model.device) == ("ONNX Runtime", "cpu")
        with pytest.raises(ConfigError, match="could not start CUDA"):
            open_model(spec, threads=1, device="cuda")


def test_a_device_that_is_not_there_is_refused(checkpoint: Path, exported: Path) -> None:
    for path in (checkpoint, exported):
        with pytest.raises(ConfigError, match="cannot use device 'cuda'"):
            open_model(ModelSpec(checkpoint=str(path)), threads=1, device="cuda")


def test_files_that_are_no_models_are_refused(exported: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(exported.read_bytes()[: exported.stat().st_size // 2])
    (tmp_path / "foreign.pt").write_bytes(b"not a checkpoint")
    foreign = picture_model(tmp_path / "foreign.onnx")
    for path, kind, told in (
        (half, CheckpointError, "half.onnx"),
        (tmp_path / "foreign.pt", CheckpointError, "foreign.pt"),
        (foreign, ConfigError, "a detector, not a classifier"),
        (tmp_path / "none", CheckpointError, "checkpoint not found"),
    ):
        with pytest.raises(kind, match=told):
            open_model(ModelSpec(checkpoint=str(path)), threads=1)
    with pytest.raises(ConfigError, match="did you mean : r3d_18"):
        open_model(ModelSpec(backbone="r3d18"), threads=1)


def test_an_exported_file_is_opened_without_torch(exported: Path) -> None:
    code = f"""
import json, sys
sys.modules["torch"] = None
from vidkd.bench.speed.config import ModelSpec
from vidkd.bench.speed.opening import open_model
model = open_model(ModelSpec(checkpoint={str(exported)!r}), threads=1)
print(json.dumps(model.answer(model.input.noise(1, 0)).probabilities.shape))
"""
    done = run_to_end([sys.executable, "-c", code], check=True)
    assert json.loads(done.stdout) == [1, 3]
