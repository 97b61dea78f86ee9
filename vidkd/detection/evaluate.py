"""Judging a detector on annotated frames."""

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vidkd.base.files import atomic_write, write_json
from vidkd.detection.annotations import BoxManifest, FrameKey, LabelledFrame
from vidkd.detection.dataset import read_frame
from vidkd.detection.metrics import AveragePrecision, FrameRecall, average_precision, recall_of
from vidkd.runtime.detections import Detections, map_classes
from vidkd.runtime.detector import Detector
from vidkd.video import open_video

NO_NOTES: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class BoxJudgement:
    """What a detector found in annotated frames, and how good that is: its average precision, or its recall where others may lack a box.

    detections: in the classes of the truth. unknown: classes of the truth that the detector does not have, whose objects count as missed.
    """

    found: AveragePrecision | FrameRecall
    detections: Mapping[FrameKey, Detections]
    unknown: tuple[str, ...] = ()

    def write(self, folder: Path, split: str, notes: Mapping[str, object] = NO_NOTES) -> tuple[Path, Path]:
        """Write evaluation.json (metrics, table, counts) and the table (classes.csv or videos.csv) into `folder`; returns their paths.

        notes: further entries of the first, such as the hash of what was judged and intervals.
        """
        found, whole, table = self.found, folder / "evaluation.json", folder / f"{self.found.of}.csv"
        write_json(whole, {"split": split, **found.counts, "metrics": found.metrics(), **notes, found.of: found.rows})
        with atomic_write(table) as file:
            writer = csv.DictWriter(file, tuple(found.rows[0]))
            writer.writeheader()
            writer.writerows(found.rows)
        return whole, table


def judge_boxes(detector: Detector, truth: BoxManifest, *, score: float = 0.0, batch_size: int = 32) -> BoxJudgement:
    """Run a detector on the completely annotated frames of `truth` and judge it; its classes are matched to those of `truth` by name.

    Where no frame is complete (DAVIS), count the objects that its boxes of at least `score` meet by IoU 0.5 and class, see `recall_of`.
    Raises ConfigError where no class of the two has the same name; DataError and VideoError for a frame that cannot be read, DataError
    without an object to find.
    """
    mapping = map_classes(detector.class_names, truth.classes, of=f"detector and data set '{truth.name}'")
    complete = tuple(frame for frame in truth.frames if frame.complete)
    judged = complete or tuple(frame for frame in truth.frames if not frame.ignore.all())
    detections: dict[FrameKey, Detections] = {}
    for frames, pixels in _batches(dataclasses.replace(truth, frames=judged), batch_size):
        for frame, each in zip(frames, detector(pixels), strict=True):
            detections[frame.key] = mapping.translate(each.at(frame.frame_index or 0, frame.time_s))
    found = average_precision(truth, detections) if complete else recall_of(truth, detections, score=score)
    return BoxJudgement(found=found, detections=detections, unknown=mapping.only_target)


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
