"""Judging a detector on annotated frames."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from box_samples import frame_of, manifest_of
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.evaluate import judge_boxes
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
    found = judge_boxes(detector, bright, batch_size=2).detections
    assert detector.batches == [2, 1, 2, 1]
    assert {key: each.boxes[0, 2] for key, each in found.items()} == {frame.key: frame.boxes[0, 2] for frame in bright.frames}
    assert found["a.mp4", 7].frame_index == 7


def test_figures_are_those_of_the_metrics_and_are_written(bright: BoxManifest, tmp_path: Path) -> None:
    judgement = judge_boxes(Brightness(), bright)
    assert judgement.found.metrics() == {"ap50": 1.0, "map": 1.0, "ap75": 1.0, "recall": 1.0, "recall50": 1.0}
    assert judgement.found.rows[1] == {"class": "dog", "boxes": 0, "ap50": None, "ap": None, "recall50": None}
    document, table = judgement.write(tmp_path / "out", "val")
    text = json.loads(document.read_text())
    assert (text["split"], text["frames"], text["boxes"], text["metrics"]["map"]) == ("val", 6, 6, 1.0)
    with table.open() as file:
        assert next(iter(csv.DictReader(file))) == {"class": "cat", "boxes": "6", "ap50": "1.0", "ap": "1.0", "recall50": "1.0"}
    assert judge_boxes(Brightness(label=1), bright).found.metrics()["ap50"] == 0.0


def test_classes_are_matched_by_name(bright: BoxManifest) -> None:
    judgement = judge_boxes(Brightness(names=("bird", "horse", "Cat"), label=2), bright)
    assert judgement.found.metrics()["ap50"] == 1.0
    assert judgement.unknown == ("dog",)
    assert judge_boxes(Brightness(names=("bird", "cat")), bright).found.metrics()["ap50"] == 0.0
    with pytest.raises(ConfigError, match="no class in common"):
        judge_boxes(Brightness(names=("bird",)), bright)


def salient(bright: BoxManifest) -> BoxManifest:
    """The same frames, in which other objects may lack their box: one without anything to find, one of a class of its own."""
    frames = [dataclasses.replace(frame, complete=False) for frame in bright.frames]
    frames[0] = dataclasses.replace(frames[0], ignore=np.array([True]))
    frames[1] = dataclasses.replace(frames[1], labels=np.array([1]))
    frames[2] = dataclasses.replace(frames[2], boxes=np.array([[0, 0, 30, 10]], np.float32))
    return dataclasses.replace(bright, frames=tuple(frames))


def test_recall_counts_the_objects_that_were_found(bright: BoxManifest, tmp_path: Path) -> None:
    truth, detector = salient(bright), Brightness()
    judgement = judge_boxes(detector, truth, score=0.5)
    # of a.mp4 frame 7 has nothing to find and in frame 2 the box is too small; of b.mp4 frame 7 shows a dog
    assert sum(detector.batches) == 5
    assert judgement.found.metrics() == {"recall50": 3 / 5, "recall50_video": (1 / 2 + 2 / 3) / 2}
    assert judgement.found.rows == [
        {"video": "b.mp4", "objects": 3, "recall50": 2 / 3},
        {"video": "a.mp4", "objects": 2, "recall50": 1 / 2},
    ]
    document, table = judgement.write(tmp_path / "out", "test")
    text = json.loads(document.read_text())
    assert (text["frames"], text["objects"], text["score"], text["metrics"]["recall50"]) == (5, 5, 0.5, 0.6)
    with table.open() as file:
        assert [row["recall50"] for row in csv.DictReader(file)] == [str(2 / 3), "0.5"]
    assert judge_boxes(Brightness(), truth, score=0.95).found.metrics()["recall50"] == 0
    assert judge_boxes(Brightness(("cat", "cow")), truth, score=0.5).unknown == ("dog",)
