"""Small trees of labelled images and videos, and what a layout reads of them."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from vidkd.detection.annotations import BoxManifest
from vidkd.video import write_video

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
