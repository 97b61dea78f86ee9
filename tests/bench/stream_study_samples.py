"""Small studies of streams: drawn shapes as images on disk, a student of random weights, an oracle that reads shapes off the picture."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from vidkd.bench.streams.study import StreamStudy, read_stream_study
from vidkd.bench.study import CellKey, Places, run_cell
from vidkd.detection.online import Student
from vidkd.detection.opening import ModelFiles
from vidkd.detection.policies import save_selector
from vidkd.detection.policies.lstm import provenance
from vidkd.models.darknet.weights import save_weights
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig
from vidkd.runtime.detections import Detections

sys.path.insert(0, str(Path(__file__).parents[1] / "detection"))
from online_samples import CFG, NAMES, Painter, detector, stream

FRAMES = 40


def write_frames(folder: Path, frames: list[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:03d}.png"), frame[:, :, ::-1])


def make_root(folder: Path) -> Path:
    """Two videos as folders of images, the student's files, and a file that stands for the oracle."""
    write_frames(folder / "both", stream(FRAMES))
    write_frames(folder / "bars", stream(24, seed=5, square=False))
    (folder / "tiny.cfg").write_text(CFG)
    (folder / "tiny.names").write_text("\n".join(NAMES) + "\n")
    save_weights(detector().net, folder / "tiny.weights")
    (folder / "oracle.onnx").write_bytes(b"a painter")
    (folder / "oracle.yaml").write_text("of the painter\n")
    return folder


def study_content(**over: Any) -> dict[str, Any]:
    return {
        "study": "small",
        "student": {"cfg": "tiny.cfg", "weights": "tiny.weights", "names": "tiny.names", "score": 0.01},
        "oracle": {"model": "oracle.onnx", "metadata": "oracle.yaml"},
        "streams": {"both": {"segments": [{"video": "both"}], "ranges": {"late": [20, 40]}}},
        "seeds": [0, 1],
        "calls": [0.1],
        "block": 10,
        "update": {"trains": "all", "lr": 0.01, "steps": 8},
        "reference": ["student"],
        "methods": {"student": {"kind": "frozen"}, "fixed": {}},
        **over,
    }


def make_study(folder: Path, content: Mapping[str, Any] | None = None, **over: Any) -> StreamStudy:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(dict(content or study_content(**over)), sort_keys=False))
    return read_stream_study(path)


def make_places(root: Path, out: Path) -> Places:
    return Places(roots=(root,), results=out / "results", runs=out / "runs", cache=out / "oracle")


def run_one(study: StreamStudy, key: CellKey, places: Places) -> dict[str, Any]:
    """A cell, not kept."""
    study.prepare([key], places)
    return run_cell(key, study=study, phase="test", places=places, chosen={}, quiet=True)


class CountingPainter(Painter):
    """Tells how many frames all painters have seen."""

    seen = 0

    def __call__(self, frames: np.ndarray) -> list[Detections]:
        CountingPainter.seen += len(frames)
        return super().__call__(frames)


def let_painter_be_the_oracle(patch: pytest.MonkeyPatch) -> None:
    CountingPainter.seen = 0
    patch.setattr(ModelFiles, "open", lambda _: CountingPainter())


def write_selector(path: Path, **over) -> None:
    """Of the student of these studies, with weights at random."""
    first = Student(detector())
    features = len(first.detect(np.zeros((64, 64, 3), np.uint8), frame_index=0).features)
    torch.manual_seed(1)
    about = provenance(["some video"], ["another"], first.detector.net, first.detector.resize)
    made_from = {"made_from": {"budget": 0.1, "window": 20, "update": {"lr": 0.01, "steps": 8}}}
    save_selector(path, KeyFrameLSTM(SelectorConfig(features=features, units=4)), {**about, **made_from, **over})
