"""Networks called directly in ONNX Runtime and in OpenCV: peers with nothing of vidkd around them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.bench.speed.config import ModelSpec
from vidkd.bench.speed.cost import cost_of
from vidkd.bench.speed.direct import NAMES
from vidkd.bench.speed.opening import open_model


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
