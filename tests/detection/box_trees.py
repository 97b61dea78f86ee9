"""Small trees of labelled images, and what a layout reads of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidkd.detection.annotations import BoxManifest
from vidkd.detection.layouts import BOX_LAYOUTS, BoxOptions, BoxReading

WIDTH, HEIGHT = 40, 30


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def texts(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def read(layout: str, root: Path, **options: Any) -> BoxReading:
    """Read, and check that the manifest survives a file."""
    reading = BOX_LAYOUTS[layout](root, BoxOptions(**options))
    reading.manifest.write(root / "boxes.jsonl")
    assert len(BoxManifest.read(root / "boxes.jsonl").frames) == len(reading.manifest.frames)
    (root / "boxes.jsonl").unlink()
    return reading


def rows(reading: BoxReading) -> list[tuple[str, int | None, list, list, list]]:
    """(path, frame index, boxes, labels, ignore) of every frame."""
    frames = reading.manifest.frames
    return [(f.path, f.frame_index, f.boxes.tolist(), f.labels.tolist(), f.ignore.tolist()) for f in frames]
