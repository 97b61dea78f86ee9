"""Frames, detections and their files in few words; small trees of labelled images and videos."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.runtime.detections import Detections
from vidkd.video import write_video

Corners = Sequence[Sequence[float]]


def frame_of(
    boxes: Corners,
    labels: Sequence[int] | None = None,
    *,
    path: str = "a.mp4",
    index: int | None = 0,
    ignore: Sequence[bool] | None = None,
    track_ids: Sequence[int] | None = None,
    **more: Any,
) -> LabelledFrame:
    """A frame of 100 x 80 pixels with these boxes, of class 0 unless told."""
    of_frame = {"path": path, "frame_index": index, "width": 100, "height": 80, "group": path, **more}
    return LabelledFrame(
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        labels=np.asarray([0] * len(boxes) if labels is None else labels, np.int64),
        ignore=np.asarray([False] * len(boxes) if ignore is None else ignore, bool),
        track_ids=None if track_ids is None else np.asarray(track_ids),
        **of_frame,
    )


def manifest_of(*frames: LabelledFrame, classes: Sequence[str] = ("cat", "dog"), root: Path = Path()) -> BoxManifest:
    return BoxManifest(name="pets", root=root, classes=tuple(classes), frames=frames)


def found(boxes: Corners, scores: Sequence[float], labels: Sequence[int] | None = None, index: int = 0) -> Detections:
    """Detections of class 0 unless told."""
    return Detections(boxes=boxes, scores=scores, labels=[0] * len(boxes) if labels is None else labels, frame_index=index)


def random_boxes(rng: np.random.Generator, count: int, size: float = 60) -> np.ndarray:
    """Boxes (count, 4) in a frame of `size`, small enough to overlap often and coincide at times."""
    corner = rng.integers(0, int(size) - 20, (count, 2))
    return np.concatenate([corner, corner + rng.integers(8, 20, (count, 2))], axis=1).astype(np.float32)


WIDTH, HEIGHT = 64, 48


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def texts(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def video(path: Path, frames: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [np.full((HEIGHT, WIDTH, 3), 20 * k, np.uint8) for k in range(frames)], fps=25)


def rows(manifest: BoxManifest) -> list[tuple[str, int | None, list, list, list]]:
    """(path, frame index, boxes, labels, ignore) of every frame."""
    return [(f.path, f.frame_index, f.boxes.tolist(), f.labels.tolist(), f.ignore.tolist()) for f in manifest.frames]
