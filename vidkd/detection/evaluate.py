"""Judging a detector on annotated frames."""

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.files import atomic_write, write_json
from vidkd.detection.annotations import BoxManifest, FrameKey, LabelledFrame
from vidkd.detection.dataset import frames_by_path, read_frame
from vidkd.detection.metrics import AveragePrecision, FrameRecall, average_precision, recall_of
from vidkd.runtime.detections import Detections
from vidkd.runtime.detector import Detector
from vidkd.runtime.mapping import map_classes
from vidkd.video import open_video

METRICS = ("ap50", "map", "ap75", "recall", "recall50")
NO_NOTES: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class DetectorJudgement:
    """What a detector found in annotated frames, and how good that is.

    truth_boxes: boxes of each class that count, by name. unknown: classes of the truth that the detector does not have.
    """

    detections: Mapping[FrameKey, Detections]
    precision: AveragePrecision
    truth_boxes: Mapping[str, int]
    unknown: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """ap50, map, ap75, recall, recall50, each in [0, 1]; 0 where there was nothing to find."""
        return {name: getattr(self.precision, name) or 0.0 for name in METRICS}

    def rows(self) -> list[dict[str, Any]]:
        """For each class its name, boxes, ap50, ap (mean over IoU .50 to .95) and recall50; None where it has no box."""
        found = self.precision
        return [
            {
                "class": name,
                "boxes": boxes,
                "ap50": found.ap50_by_class.get(name),
                "ap": found.ap_by_class.get(name),
                "recall50": found.recall50_by_class.get(name),
            }
            for name, boxes in self.truth_boxes.items()
        ]

    def write(self, folder: Path, split: str, notes: Mapping[str, object] = NO_NOTES) -> tuple[Path, Path]:
        """Write evaluation.json (metrics, classes, counts) and classes.csv (a row a class) into `folder`; returns their paths.

        notes: further entries of the first, such as the hash of what was judged and intervals.
        """
        counts = {name: getattr(self.precision, name) for name in ("frames", "boxes", "ignored", "incomplete")}
        return _write(folder, "classes", {"split": split, **counts, "metrics": self.metrics(), **notes}, self.rows())


@dataclass(frozen=True, kw_only=True)
class RecallJudgement:
    """What a detector found of the objects of frames in which others may lack their box, so that nothing it finds is known to be wrong.

    score: boxes below it did not count. unknown: classes of the truth that the detector does not have, whose objects count as missed.
    """

    recall: FrameRecall
    score: float
    unknown: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """recall50, in [0, 1], pooled over all objects, and recall50_video, the mean over videos (folders of images)."""
        by_path = self.recall.recall_by_path
        return {"recall50": self.recall.recall, "recall50_video": sum(by_path.values()) / len(by_path)}

    def rows(self) -> list[dict[str, Any]]:
        """For each video its objects, summed over frames, and the share of them that was found."""
        objects: Counter[str] = Counter()
        for (path, _), count in zip(self.recall.keys, self.recall.objects.tolist(), strict=True):
            objects[path] += count
        return [{"video": path, "objects": objects[path], "recall50": value} for path, value in self.recall.recall_by_path.items()]

    def write(self, folder: Path, split: str, notes: Mapping[str, object] = NO_NOTES) -> tuple[Path, Path]:
        """Write evaluation.json (metrics, videos, counts) and videos.csv (a row a video) into `folder`; returns their paths.

        notes: further entries of the first, such as the hash of what was judged and intervals.
        """
        counts = {"frames": len(self.recall.keys), "objects": int(self.recall.objects.sum()), "score": self.score}
        return _write(folder, "videos", {"split": split, **counts, "metrics": self.metrics(), **notes}, self.rows())


def _write(folder: Path, what: str, document: Mapping[str, object], rows: Sequence[Mapping[str, object]]) -> tuple[Path, Path]:
    """Write a document with these rows as evaluation.json, and the rows, at least one, as a table named after what they are."""
    whole, table = folder / "evaluation.json", folder / f"{what}.csv"
    write_json(whole, {**document, what: rows})
    with atomic_write(table) as file:
        writer = csv.DictWriter(file, tuple(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return whole, table


def judge_recall(detector: Detector, truth: BoxManifest, *, score: float, batch_size: int = 32) -> RecallJudgement:
    """Run a detector on the frames of `truth` and count the objects that its boxes of at least `score` meet by IoU 0.5 and class.

    The protocol for footage of which not every object has a box (DAVIS); see `recall_of`. Raises as `judge_detector` and `recall_of` do.
    """
    mapping = map_classes(detector.class_names, truth.classes, of=f"detector and data set '{truth.name}'")
    to_find = dataclasses.replace(truth, frames=tuple(frame for frame in truth.frames if not frame.ignore.all()))
    found = {key: mapping.translate(each) for key, each in detect_frames(detector, to_find, batch_size=batch_size).items()}
    return RecallJudgement(recall=recall_of(to_find, found, score=score), score=score, unknown=mapping.only_target)


def judge_detector(detector: Detector, truth: BoxManifest, *, batch_size: int = 32) -> DetectorJudgement:
    """Run a detector on every frame of `truth` and judge it; its classes are matched to those of `truth` by name.

    Raises ConfigError where no class of the two has the same name; DataError and VideoError for a frame that cannot be read.
    """
    mapping = map_classes(detector.class_names, truth.classes, of=f"detector and data set '{truth.name}'")
    found = {key: mapping.translate(each) for key, each in detect_frames(detector, truth, batch_size=batch_size).items()}
    counts = np.bincount(
        np.concatenate([frame.labels[~frame.ignore] for frame in truth.frames if frame.complete] or [np.zeros(0, np.int64)]),
        minlength=len(truth.classes),
    )
    return DetectorJudgement(
        detections=found,
        precision=average_precision(truth, found),
        truth_boxes=dict(zip(truth.classes, counts.tolist(), strict=True)),
        unknown=mapping.only_target,
    )


def detect_frames(detector: Detector, truth: BoxManifest, *, batch_size: int = 32) -> dict[FrameKey, Detections]:
    """The detections of every frame of a manifest, filed under `frame.key`. A video is opened once and read in the order of its frames."""
    found: dict[FrameKey, Detections] = {}
    for frames, pixels in _batches(truth, batch_size):
        for frame, detections in zip(frames, detector(pixels), strict=True):
            found[frame.key] = detections.at(frame.frame_index or 0, frame.time_s)
    return found


def _batches(truth: BoxManifest, batch_size: int) -> Iterator[tuple[list[LabelledFrame], NDArray[np.uint8]]]:
    """Frames of one file at a time, with their pixels (B, H, W, 3)."""
    for path, frames in frames_by_path(truth).items():
        parts = [frames[start : start + batch_size] for start in range(0, len(frames), batch_size)]
        if frames[0].frame_index is None or (truth.root / path).is_dir():
            yield from ((part, np.stack([read_frame(truth, frame) for frame in part])) for part in parts)
            continue
        with open_video(truth.root / path) as reader:
            for part in parts:
                yield part, np.asarray(reader.frames_at_indices([frame.frame_index or 0 for frame in part]), np.uint8)
