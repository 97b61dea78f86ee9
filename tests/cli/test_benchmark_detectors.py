"""`vidkd benchmark` with detectors."""

from pathlib import Path

import numpy as np
import pytest
from benchmark_runs import benchmark, write
from picture_model import picture_model

from vidkd.bench.speed.accuracy import shown_frames
from vidkd.bench.speed.config import DataSpec
from vidkd.bench.summary import read_summary
from vidkd.detection.frames import frames_identity
from vidkd.video import write_video


def test_detectors_on_a_video_below_a_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person stands where the detector says, in the second of two stretches; the baseline looks for persons too, but finds none."""
    root = tmp_path / "root"
    (root / "walk").mkdir(parents=True)
    for name, classes in (("good", "[person, dog]"), ("bad", "[dog, person]")):
        found = picture_model(root / f"{name}.onnx").with_suffix(".yaml")
        found.write_text(found.read_text().replace("[cat, dog]", classes))
    values = np.zeros(48)
    values[:6] = (0, 0, 0.5, 0.5, 0.9, 0)
    picture = np.kron((values * 255).round().astype(np.uint8).reshape(4, 4, 3), np.ones((16, 16, 1), np.uint8))
    write_video(root / "walk" / "walk.mp4", [picture] * 60, fps=10, lossless=True)
    (root / "walk" / "keyframes.txt").write_text("1,1,0,0,32,32,1\n60,1,0,0,32,32,1\n")
    data = {"root": "walk", "layout": "mot", "annotations": ["keyframes.txt"], "classes": ["person"]}
    models = {"bad": {"detector": "bad.onnx"}, "good": {"detector": "good.onnx"}}
    path = write(tmp_path / "frames.yaml", models, data=data, batches=[1])
    assert benchmark(path, "--data.root", root, "--out", tmp_path / "out", "--end_to_end", "0") == 0
    summary = read_summary(tmp_path / "out" / "summary.json")
    assert [summary["methods"][label]["metrics"]["ap50"]["mean"] for label in models] == [0.0, 1.0]
    (pair,) = summary["paired"]
    assert (pair["method"], pair["metric"], pair["difference"], pair["ci95"]) == ("good", "ap50", 1.0, [1.0, 1.0])
    assert summary["data"]["models"]["good"]["judged_on"] == "2 frames of mot"
    assert summary["data"]["models"]["good"]["input"] == "frames 64x64", "those of the video"
    truth = shown_frames(DataSpec(**{**data, "root": str(root / "walk")}), runs=False)
    assert summary["data"]["manifest"] == frames_identity(("person",), truth)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2][:8] == ["good", "bad", "100.0", "[100.0,", "100.0]", "+100.0", "[+100.0,", "+100.0]"]
    assert str(root) not in (tmp_path / "out" / "summary.json").read_text(encoding="utf-8")


def test_a_detector_on_noise(tmp_path: Path) -> None:
    models = {"pictures": {"detector": str(picture_model(tmp_path / "picture.onnx"))}}
    path = write(tmp_path / "frames.yaml", models, shape={"height": 8, "width": 12})
    assert benchmark(path, "--out", tmp_path / "out") == 0
    summary = read_summary(tmp_path / "out" / "summary.json")
    assert summary["data"]["models"]["pictures"]["input"] == "frames 12x8"
    assert summary["methods"]["pictures"]["parameters"] is None
