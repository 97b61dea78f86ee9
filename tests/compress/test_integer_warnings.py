"""Files in integers that mostly differ from their network are warned of, and recorded with the warning."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from test_export_classifier import plain

from vidkd.compress import parity as parity_module
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.export import Exported, export
from vidkd.compress.parity import Parity, generated_clips
from vidkd.compress.quantise import Integers, Quantised
from vidkd.compress.subject import add_to_notes
from vidkd.models import ModelConfig, VideoClassifier

NEAR = Parity(difference=0.1, scale=5.0, signal_db=30.0, agreement=1.0, answers="the same in 8 of 8", source="8 clips")
INTEGERS = Quantised(graph=b"", layers={"a": "Conv"}, left={"b": "exclude"})


@pytest.mark.parametrize(
    ("agreement", "signal_db", "expected"),
    [
        (1.0, 30.0, ""),
        (0.5, 3.0, ""),
        (0.375, 30.0, "the same in 8 of 8"),
        (None, 2.9, "signal to noise of its outputs 2.9 dB, below 3"),
        (0.0, -3.0, "the same in 8 of 8; signal to noise of its outputs -3.0 dB, below 3"),
    ],
)
def test_when_a_file_mostly_differs(agreement: float | None, signal_db: float, expected: str) -> None:
    assert dataclasses.replace(NEAR, agreement=agreement, signal_db=signal_db).apart == expected


def test_notes_hold_every_file_and_warn_of_integers_alone() -> None:
    apart, notes = dataclasses.replace(NEAR, agreement=0.0), dict[str, Any](calibration="clips")
    for name, parity, quantised in (("m.onnx", apart, INTEGERS), ("m.xml", NEAR, INTEGERS), ("m.pt2", apart, None)):
        add_to_notes(notes, Exported(source=None, path=Path(name), files=(), parity=parity, quantised=quantised))  # type: ignore[arg-type]
    assert notes["calibration"] == "clips"
    assert (notes["layers"], notes["left"], notes["integer_convolutions"]) == ({"a": "Conv"}, {"b": "exclude"}, 1)
    assert notes["parity"] == {
        "m.onnx": {"said": str(apart), "warning": "mostly differs from its network: the same in 8 of 8"},
        "m.xml": {"said": str(NEAR)},
        "m.pt2": {"said": str(apart)},
    }


def test_a_file_that_mostly_differs_is_kept_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity_module, "LEAST_SIGNAL_DB", 99.0)
    source = plain(VideoClassifier(ModelConfig(), 2, "rgb"))
    feed = {"clip": generated_clips(source.metadata, 1).values}
    integers = Integers(config=QuantiseConfig(), feeds=[feed], source="noise")
    with caplog.at_level(logging.WARNING, "vidkd"):
        exported = export(source, tmp_path / "net.onnx", integers=integers)
    assert exported.parity.apart
    assert "net.onnx mostly differs from its network: " in caplog.text
    assert exported.path.exists()
