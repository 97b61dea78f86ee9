"""vidkd export of detectors, and detect on what it writes where torch cannot be imported."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from started import run_to_end
from street_runs import street_config, write_streets
from test_export import BLOCKED, verb

from vidkd.base.files import sha256
from vidkd.detection.config import load_detector_config
from vidkd.detection.fit import fit_detector
from vidkd.detection.frames import read_frames
from vidkd.detection.saved import load_detector
from vidkd.models.saved import checkpoint_in


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


@pytest.fixture(scope="module")
def student(streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_detector(street_config(streets, tmp_path_factory.mktemp("runs")), quiet=True).folder


@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_detect_without_torch_finds_what_the_run_finds(
    suffix: str, student: Path, streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, video = tmp_path / f"net.{suffix}", next(streets.rglob("test*.mp4"))
    assert verb("export", "--model", student, "--out", file, "--licence", "MIT") == 0
    printed = capsys.readouterr().out
    assert "frames of 'val')" in printed, "checked on the run's own frames"
    score = ("--score", "0.0001")
    assert verb("detect", video, "--model", student, "--out", tmp_path / "here", *score) == 0
    blocked = [sys.executable, "-c", BLOCKED, "detect", str(video), "--model", str(file), "--out", str(tmp_path / "there"), *score]
    done = run_to_end(blocked)
    assert done.returncode == 0, done.stderr
    found = [json.loads(next((tmp_path / name).rglob("coco.json")).read_text())["annotations"] for name in ("here", "there")]
    scores = [np.sort([each["score"] for each in annotations])[::-1][:20] for annotations in found]
    assert len(scores[0]) == 20
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)


def test_integers_of_a_detector(student: Path, streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "net.onnx", tmp_path / "net.xml"]
    assert verb("export", "--model", student, "--out", ",".join(map(str, files)), "--int8", "--int8-clips", 4) == 0
    printed = capsys.readouterr().out
    assert "ranges of activations found on 4 training frames\n" in printed
    assert printed.count("3 layers in eight-bit integers: 3 convolutions; in float: none\n") == 2
    darknet = ["--weights", student / "student.weights", "--names", student / "student.names", "--out", tmp_path / "cfg.onnx"]
    assert verb("export", "--model", student / "student.cfg", *darknet, "--int8") == 2
    assert "--int8-footage VIDEO" in capsys.readouterr().err
    footage = next(streets.rglob("test*.mp4"))
    judged = ["--out", tmp_path / "judged.onnx", "--int8", "--int8-footage", footage]
    assert verb("export", "--model", student, *judged) == 2
    assert "the footage is judged, or of a group that is" in capsys.readouterr().err
    assert verb("export", "--model", student / "student.cfg", *darknet, "--int8", "--int8-footage", footage, "--int8-clips", 4) == 0
    captured = capsys.readouterr()
    assert "found on 4 frames of 1 videos" in captured.out
    assert "checked on drawn pictures: a .cfg has no data of its own" in captured.err
    assert "8 drawn pictures" in captured.out
    assert "Judged, before export | not judged: a .cfg has no run" in (tmp_path / "cfg.onnx.md").read_text(encoding="utf-8")


def test_the_card_of_a_run_that_was_evaluated(student: Path, tmp_path: Path) -> None:
    assert verb("evaluate", "--model", student, "--device", "cpu", "--subset", "val") == 0
    found = json.loads((student / "evaluation.json").read_text())
    assert found["checkpoint"] == sha256(checkpoint_in(student))
    assert verb("export", "--model", student, "--out", tmp_path / "net.onnx") == 0
    card = (tmp_path / "net.onnx.md").read_text(encoding="utf-8")
    assert f"| Data | {read_frames(load_detector_config(settings=load_detector(student).run).data).manifest.name} |" in card
    text = [
        f"{name} {found['metrics'][name]:.3f} (95 % interval {found['ci95'][name][0]:.3f} to {found['ci95'][name][1]:.3f}), "
        f"{found['frames']} frames of 'val'"
        for name in ("ap50", "map", "recall50")
    ]
    assert f"| Judged, before export | {'; '.join(text)} |" in card


def test_formats_are_checked_before_anything_is_written(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("export", "--model", student, "--out", tmp_path / "a.onnx", "--out", tmp_path / "a.pt2") == 2
    assert "not a format of export of this network" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
