"""Files in integers that mostly differ, and processors that spoil them, are warned of: in exports and in recipes alike."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from vidkd.cli.main import run_verb
from vidkd.compress import export_classifier as export_module
from vidkd.compress import parity as integer_warnings
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.parity import DetectorParity, Parity, mostly_apart, warn_if_saturating
from vidkd.compress.quantise import Quantised
from vidkd.compress.subject import export_notes

NEAR = Parity(logits=0.1, probabilities=0.01, scale=5.0, clips=8, agree=8, signal_db=30.0, source="8 clips")
BOXES = DetectorParity(heads=0.1, scale=20.0, boxes=9, f1=0.9, frames=8, signal_db=30.0, source="8 frames", shown=0.25, score=0.25)
OLD, NEW = {"sse4_1", "avx2"}, {"sse4_1", "avx2", "avx_vnni"}


@pytest.mark.parametrize(
    ("agreement", "signal_db", "expected"),
    [
        (1.0, 30.0, ""),
        (0.5, 3.0, ""),
        (0.375, 30.0, "so few agree (38 %, less than 50)"),
        (None, 2.9, "signal to noise of its outputs 2.9 dB, below 3"),
        (0.0, -3.0, "so few agree (0 %, less than 50); signal to noise of its outputs -3.0 dB, below 3"),
        (None, float("inf"), ""),
    ],
)
def test_when_a_file_mostly_differs(agreement: float | None, signal_db: float, expected: str) -> None:
    assert mostly_apart("so few agree", agreement, signal_db) == expected


def test_clips_and_boxes_that_agree_are_counted() -> None:
    assert NEAR.apart == ""
    assert dataclasses.replace(NEAR, agree=3).apart == "most probable class the same in 3 of 8 clips (38 %, less than 50)"
    assert BOXES.apart == ""
    assert dataclasses.replace(BOXES, f1=0.25).apart == "F1 of its boxes against those of the network 0.250 (25 %, less than 50)"
    assert dataclasses.replace(BOXES, f1=0.25, score=0.01).apart == "", "boxes that it would not show"
    assert dataclasses.replace(BOXES, f1=0.0, boxes=0).apart == ""
    assert "2.0 dB" in dataclasses.replace(BOXES, signal_db=2.0).apart


def test_notes_hold_every_file_and_warn_of_integers_alone() -> None:
    apart = dataclasses.replace(NEAR, agree=0)
    integers = Quantised(graph=b"", layers={"a": "Conv"}, left={"b": "exclude"}, sensitivity={})
    notes = export_notes({"calibration": "clips"}, Path("x/model.onnx"), apart, integers)
    notes = export_notes(notes, Path("x/model.xml"), dataclasses.replace(NEAR, signal_db=float("inf")), integers)
    assert notes["calibration"] == "clips"
    assert (notes["layers"], notes["left"], notes["integer_convolutions"]) == ({"a": "Conv"}, {"b": "exclude"}, 1)
    one, other = notes["parity"]["model.onnx"], notes["parity"]["model.xml"]
    assert one["warning"] == "mostly differs from its network: most probable class the same in 0 of 8 clips (0 %, less than 50)"
    assert (one["logits"], one["agree"], one["said"]) == (0.1, 0, str(apart))
    assert "warning" not in other
    assert other["signal_db"] is None, "no noise at all, which JSON has no number for"
    assert "warning" not in export_notes({}, Path("model.onnx"), apart, None)["parity"]["model.onnx"]


@pytest.mark.parametrize(("bits", "flags", "told"), [(8, OLD, True), (7, OLD, False), (8, NEW, False)])
def test_eight_bits_saturate_without_vnni(bits: Any, flags: set[str], told: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vidkd"):
        warn_if_saturating(QuantiseConfig(weight_bits=bits), "weight_bits: 7", flags)
    assert [record.getMessage() for record in caplog.records] == (
        ["this processor has no VNNI: its eight-bit products may saturate (weight_bits: 7 for files that run here)"] * told
    )


def spoilt(*given: Any, **further: Any) -> Quantised:
    """Integers whose scales are off, so that nothing is left of the signal."""
    made = QUANTISE_ONCE(*given, **further)
    model = onnx.load_from_string(made.graph)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("weight_quantized"):
            values = numpy_helper.to_array(tensor)
            noise = rng.integers(-127, 128, values.shape).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
    return dataclasses.replace(made, graph=model.SerializeToString())


QUANTISE_ONCE = export_module.quantise_once


@pytest.fixture
def on_an_old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_warnings, "processor_flags", lambda: OLD)
    monkeypatch.setattr(export_module, "quantise_once", spoilt)


@pytest.mark.slow
@pytest.mark.usefixtures("on_an_old_processor")
def test_export_and_compress_warn_alike(tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    recipe = tmp_path / "small.yaml"
    recipe.write_text("steps: [{quantise: {clips: 6}}]")
    verbs = {
        "export": ["--checkpoint", tiny_teacher, "--out", tmp_path / "net.onnx", "--int8", "--int8-clips", 6],
        "compress": ["--config", recipe, "--student", tiny_teacher, "--runs", tmp_path, "--train.threads", 1],
    }
    said = {}
    for verb, arguments in verbs.items():
        caplog.clear()
        with caplog.at_level(logging.WARNING, "vidkd"):
            assert run_verb(verb, [*map(str, arguments)]) == 0
        said[verb] = [record.getMessage() for record in caplog.records]
    assert [text.partition(" (")[0] for text in (said["export"][0], said["compress"][0])] == [
        "this processor has no VNNI: its eight-bit products may saturate"
    ] * 2
    assert "--int8-weight-bits 7" in said["export"][0]
    assert "quantise: {weight_bits: 7}" in said["compress"][0]
    assert "net.onnx mostly differs from its network: " in said["export"][1]
    assert "1_quantise/model.onnx mostly differs from its network: " in said["compress"][1]
    page = (tmp_path / "small" / "report.html").read_text(encoding="utf-8")
    assert "; warning: mostly differs from its network: " in page
