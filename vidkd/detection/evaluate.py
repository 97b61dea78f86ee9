"""Judging a detector on annotated frames."""

import abc
import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vidkd.base.files import atomic_write, write_json
from vidkd.detection.annotations import BoxManifest, FrameKey, LabelledFrame
from vidkd.detection.dataset import read_frame
from vidkd.detection.metrics import AveragePrecision, FrameRecall, average_precision, recall_of
from vidkd.runtime.detections import Detections
from vidkd.runtime.detector import Detector
from vidkd.runtime.mapping import map_classes
from vidkd.video import open_video

NO_NOTES: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class _Judged(abc.ABC):
    """unknown: classes of the truth that the detector does not have, whose objects count as missed."""

    unknown: tuple[str, ...] = ()
    of: ClassVar[str]
    """What a row of the table is about."""

    @property
    @abc.abstractmethod
    def counts(self) -> dict[str, Any]:
        """What was judged."""

    @abc.abstractmethod
    def metrics(self) -> dict[str, float]:
        """By name, each in [0, 1]."""

    @abc.abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The table."""

    def write(self, folder: Path, split: str, notes: Mapping[str, object] = NO_NOTES) -> tuple[Path, Path]:
        """Write evaluation.json (metrics, table, counts) and the table (classes.csv or videos.csv) into `folder`; returns their paths.

        notes: further entries of the first, such as the hash of what was judged and intervals.
        """
        whole, table, rows = folder / "evaluation.json", folder / f"{self.of}.csv", self.rows()
        write_json(whole, {"split": split, **self.counts, "metrics": self.metrics(), **notes, self.of: rows})
        with atomic_write(table) as file:
            writer = csv.DictWriter(file, tuple(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return whole, table


@dataclass(frozen=True, kw_only=True)
class DetectorJudgement(_Judged):
    """What a detector found in annotated frames, and how good that is."""

    detections: Mapping[FrameKey, Detections]
    precision: AveragePrecision
    of: ClassVar[str] = "classes"

    @property
    def counts(self) -> dict[str, Any]:
        """Frames and boxes that were judged, regions to ignore, and incomplete frames, which are left out."""
        return {name: getattr(self.precision, name) for name in ("frames", "boxes", "ignored", "incomplete")}

    def metrics(self) -> dict[str, float]:
        """ap50, map, ap75, recall, recall50, each in [0, 1]; 0 where there was nothing to find."""
        return {name: float(np.nan_to_num(value)) for name, value in self.precision.figures.items()}

    def rows(self) -> list[dict[str, Any]]:
        """For each class its name, boxes, ap50, ap (mean over IoU .50 to .95) and recall50; None where it has no box."""
        return [{"class": name, **row} for name, row in self.precision.by_class.items()]


@dataclass(frozen=True, kw_only=True)
class RecallJudgement(_Judged):
    """What a detector found of the objects of frames in which others may lack their box, so that nothing it finds is known to be wrong.

    score: boxes below it did not count.
    """

    recall: FrameRecall
    score: float
    of: ClassVar[str] = "videos"

    @property
    def counts(self) -> dict[str, Any]:
        """Frames, objects in them, and the score."""
        return {"frames": len(self.recall.keys), "objects": int(self.recall.objects.sum()), "score": self.score}

    def metrics(self) -> dict[str, float]:
        """recall50, in [0, 1], pooled over all objects, and recall50_video, the mean over videos (folders of images)."""
        of_videos = [share for _, share in self.recall.by_path().values()]
        return {"recall50": self.recall.recall, "recall50_video": sum(of_videos) / len(of_videos)}

    def rows(self) -> list[dict[str, Any]]:
        """For each video its objects, summed over frames, and the share of them that was found."""
        return [{"video": path, "objects": objects, "recall50": share} for path, (objects, share) in self.recall.by_path().items()]


def judge_recall(detector: Detector, truth: BoxManifest, *, score: float, batch_size: int = 32) -> RecallJudgement:
    """Run a detector on the frames of `truth` and count the objects that its boxes of at least `score` meet by IoU 0.5 and class.

    The protocol for footage of which not every object has a box (DAVIS); see `recall_of`. Raises as `judge_detector` and `recall_of` do.
    """
    to_find = dataclasses.replace(truth, frames=tuple(frame for frame in truth.frames if not frame.ignore.all()))
    found, unknown = _found(detector, to_find, batch_size)
    return RecallJudgement(recall=recall_of(to_find, found, score=score), score=score, unknown=unknown)


def judge_detector(detector: Detector, truth: BoxManifest, *, batch_size: int = 32) -> DetectorJudgement:
    """Run a detector on every frame of `truth` and judge it; its classes are matched to those of `truth` by name.

    Raises ConfigError where no class of the two has the same name; DataError and VideoError for a frame that cannot be read.
    """
    found, unknown = _found(detector, truth, batch_size)
    return DetectorJudgement(detections=found, precision=average_precision(truth, found), unknown=unknown)


def _found(detector: Detector, truth: BoxManifest, batch_size: int) -> tuple[dict[FrameKey, Detections], tuple[str, ...]]:
    """The detections of every frame in the classes of `truth`, filed under `frame.key`, and the classes that the detector does not have."""
    mapping = map_classes(detector.class_names, truth.classes, of=f"detector and data set '{truth.name}'")
    found: dict[FrameKey, Detections] = {}
    for frames, pixels in _batches(truth, batch_size):
        for frame, detections in zip(frames, detector(pixels), strict=True):
            found[frame.key] = mapping.translate(detections.at(frame.frame_index or 0, frame.time_s))
    return found, mapping.only_target


def _batches(truth: BoxManifest, batch_size: int) -> Iterator[tuple[Sequence[LabelledFrame], NDArray[np.uint8]]]:
    """Frames of one file at a time, with their pixels (B, H, W, 3). A video is opened once and read in the order of its frames."""
    for path, frames in truth.by_path().items():
        parts = [frames[start : start + batch_size] for start in range(0, len(frames), batch_size)]
        if frames[0].frame_index is None or (truth.root / path).is_dir():
            yield from ((part, np.stack([read_frame(truth, frame) for frame in part])) for part in parts)
            continue
        with open_video(truth.root / path) as reader:
            for part in parts:
                yield part, np.asarray(reader.frames_at_indices([frame.frame_index or 0 for frame in part]), np.uint8)
