"""An exported classifier against numbers worked out by hand, and the files that are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import FRAMES, SIZE, clip_metadata, clip_onnx, picture_metadata, picture_onnx

from vidkd.base.errors import CheckpointError, ConfigError, VidkdError
from vidkd.runtime.opening import open_detector, open_exported_classifier


def full(channel: int, value: int = 255) -> np.ndarray:
    clip = np.zeros((3, FRAMES, SIZE, SIZE), np.uint8)
    clip[channel] = value
    return clip


@pytest.mark.parametrize("batch", ["batch", 1, 2])
def test_probabilities_and_map_by_hand(batch: int | str, tmp_path: Path) -> None:
    """Three clips through a file of any batch size, of one clip, and of two, whose last piece is filled up."""
    classifier = open_exported_classifier(clip_onnx(tmp_path / "net.onnx", clip_metadata(), batch=batch), device="cpu", threads=1)
    corner = np.zeros((3, FRAMES, SIZE, SIZE), np.uint8)
    corner[:, :, :8, :8] = 3
    found = classifier(np.stack([full(0), full(2), corner]))
    e5 = np.exp(5)
    np.testing.assert_allclose(found.probabilities[0], np.array([e5, 1, 1]) / (e5 + 2), rtol=1e-5)
    np.testing.assert_allclose(found.probabilities[1], np.array([1, 1, e5]) / (e5 + 2), rtol=1e-5)
    np.testing.assert_allclose(found.probabilities[2], 1 / 3, rtol=1e-6)
    assert found.attention is not None
    assert found.attention.shape == (3, FRAMES, 2, 2)
    np.testing.assert_allclose(found.attention[0], 0.25, rtol=1e-5)
    e3 = np.exp(3)
    np.testing.assert_allclose(found.attention[2], np.tile(np.array([[e3, 1], [1, 1]]) / (e3 + 3), (FRAMES, 1, 1)), rtol=1e-5)
    assert found.targets == {}
    assert (classifier.view, classifier.map_shift_cells) == ("rgb", 0.0)


def test_clips_of_another_shape_are_refused(tmp_path: Path) -> None:
    classifier = open_exported_classifier(clip_onnx(tmp_path / "net.onnx", clip_metadata()))
    with pytest.raises(ValueError, match=r"clips must be \(B, 3, 2, 16, 16\)"):
        classifier(np.zeros((1, 3, FRAMES, SIZE, SIZE + 1), np.uint8))


def refused(path: Path, kind: type[VidkdError] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        open_exported_classifier(path)
    return str(caught.value)


def test_a_file_without_metadata(tmp_path: Path) -> None:
    text = refused(clip_onnx(tmp_path / "net.onnx"))
    assert f"nothing says how to run {tmp_path / 'net.onnx'}" in text
    assert "fix    : export the checkpoint again" in text


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"later": 1}, "unknown key 'later'"),
        ({"view": "depth"}, "view must be one of rgb, flow"),
        ({"view": "flow"}, "its input is uint8"),
        ({"input.size": 0}, "input.size must be a whole number from 1 on"),
        ({"input.size": 16.5}, "input.size must be a whole number"),
        ({"input.mean": "0"}, "input.mean must be a list"),
        ({"classes": []}, "classes must be a list of texts of at least 1 entries"),
        ({"classes": ["red", "green"]}, "output 'logits' of a batch of 1 has the shape (1, 3)"),
        ({"targets": {"verb": ["a"]}}, "it has no output target_verb"),
        ({"observed": True}, "its inputs are clip; the metadata make them clip, observed"),
        ({"input.frames": 4}, "its input is uint8 (None, 3, 2, 16, 16), the metadata make it uint8 (None, 3, 4, 16, 16)"),
        ({"shown": []}, "shown must be a mapping"),
    ],
)
def test_metadata_that_cannot_be(over: dict[str, Any], message: str, tmp_path: Path) -> None:
    text = refused(clip_onnx(tmp_path / "net.onnx", clip_metadata(**over)))
    assert message in text
    assert str(tmp_path / "net.onnx") in text


def test_a_detector_is_no_classifier_and_the_other_way_round(tmp_path: Path) -> None:
    detector = picture_onnx(tmp_path / "detector.onnx", embedded=picture_metadata().to_json())
    assert "a detector, not a classifier" in refused(detector)
    assert "vidkd detect --model takes it" in refused(detector)
    foreign = picture_onnx(tmp_path / "foreign.onnx")
    assert "no classifier of clips" in refused(foreign)
    assert "takes pictures, (?, 4, 4, 3)" in refused(foreign)
    foreign.with_suffix(".yaml").write_text("task: classify")
    assert "no classifier of clips" in refused(foreign)
    foreign.with_suffix(".yaml").write_text(picture_metadata().to_json())  # JSON is YAML
    assert "a detector, not a classifier" in refused(foreign)
    with pytest.raises(ConfigError, match="a classifier, not a detector"):
        open_detector(clip_onnx(tmp_path / "net.onnx", clip_metadata()))


def test_values_that_are_not_numbers(tmp_path: Path) -> None:
    text = refused(clip_onnx(tmp_path / "net.onnx", clip_metadata(), scale=float("nan")), CheckpointError)
    assert "gives values that are not numbers" in text


def test_paths_that_are_no_exported_classifier(tmp_path: Path) -> None:
    assert "model file not found" in refused(tmp_path / "none.onnx", CheckpointError)
    assert "runs without torch" in refused(tmp_path / "net.h5")
