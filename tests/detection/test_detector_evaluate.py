"""Judging a detector on annotated frames."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from box_samples import frame_of, manifest_of
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.evaluate import detect_frames, judge_detector
from vidkd.runtime.detections import Detections
from vidkd.video import write_video


class Brightness:
    """Finds one box that tells how bright the frame is, of the class of its place among the names."""

    def __init__(self, names: Sequence[str] = ("cat", "dog"), label: int = 0) -> None:
        self.class_names, self.label, self.batches = tuple(names), label, list[int]()

    def __call__(self, frames: NDArray[np.uint8]) -> list[Detections]:
        self.batches.append(len(frames))
        return [
            Detections(boxes=np.array([[0, 0, round(float(frame.mean()) / 10), 10]]), scores=[0.9], labels=[self.label]) for frame in frames
        ]


@pytest.fixture
def bright(tmp_path: Path) -> BoxManifest:
    """Two videos of frames of brightness 50, 60, 70, …, of which some are annotated, one box as the detector finds it."""
    for name in ("a.mp4", "b.mp4"):
        levels = np.arange(50, 170, 10, dtype=np.uint8)
        write_video(tmp_path / name, np.broadcast_to(levels[:, None, None, None], (12, 80, 100, 3)), fps=10, crf=1)
    frames = [frame_of([[0, 0, 5 + index, 10]], path=path, index=index) for index in (7, 2, 3) for path in ("a.mp4", "b.mp4")]
    return manifest_of(*frames, root=tmp_path)


def test_each_frame_gets_its_own_detections_in_batches_of_one_file(bright: BoxManifest) -> None:
    detector = Brightness()
    found = detect_frames(detector, bright, batch_size=2)
    assert detector.batches == [2, 1, 2, 1]
    assert {key: each.boxes[0, 2] for key, each in found.items()} == {frame.key: frame.boxes[0, 2] for frame in bright.frames}
    assert found["a.mp4", 7].frame_index == 7


def test_figures_are_those_of_the_metrics_and_are_written(bright: BoxManifest, tmp_path: Path) -> None:
    judgement = judge_detector(Brightness(), bright)
    assert judgement.metrics() == {"ap50": 1.0, "map": 1.0, "ap75": 1.0, "recall": 1.0, "recall50": 1.0}
    assert judgement.rows()[1] == {"class": "dog", "boxes": 0, "ap50": None, "ap": None, "recall50": None}
    document, table = judgement.write(tmp_path / "out", "val")
    told = json.loads(document.read_text())
    assert (told["split"], told["frames"], told["boxes"], told["metrics"]["map"]) == ("val", 6, 6, 1.0)
    with table.open() as file:
        assert next(iter(csv.DictReader(file))) == {"class": "cat", "boxes": "6", "ap50": "1.0", "ap": "1.0", "recall50": "1.0"}
    assert judge_detector(Brightness(label=1), bright).metrics()["ap50"] == 0.0


def test_classes_are_matched_by_name(bright: BoxManifest) -> None:
    judgement = judge_detector(Brightness(names=("bird", "horse", "Cat"), label=2), bright)
    assert judgement.metrics()["ap50"] == 1.0
    assert judgement.unknown == ("dog",)
    assert judge_detector(Brightness(names=("bird", "cat")), bright).metrics()["ap50"] == 0.0
    with pytest.raises(ConfigError, match="no class in common"):
        judge_detector(Brightness(names=("bird",)), bright)
