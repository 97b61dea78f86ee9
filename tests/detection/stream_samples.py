"""A video of a bright square, a detector that finds it, and a stepper whose results depend on all frames before."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vidkd.detection.stream import DetectorStepper, Step, StreamConfig, walk_stream
from vidkd.report.annotate import draw_boxes
from vidkd.runtime.detections import Detections
from vidkd.video import Frame, open_video, write_video

NAMES = ("left", "right")
FPS = 20
HEIGHT, WIDTH = 48, 64
SETTINGS = {"model": "sha256 0123"}


def pictures(frames: int, *, dark: bool = False, first: int = 0) -> np.ndarray:
    """A square of 8 pixels going to and fro over dark noise."""
    images = np.random.default_rng(0).integers(0, 60, (frames, HEIGHT, WIDTH, 3)).astype(np.uint8)
    for index, image in enumerate(images):
        x = abs((3 * (index + first)) % 96 - 48)
        if not dark:
            image[20:28, x : x + 8] = 230
    return images


def make_video(path: Path, frames: int = 50, **options) -> Path:
    write_video(path, pictures(frames, dark=options.pop("dark", False)), fps=FPS, **options)
    return path


class SquareDetector:
    """Finds the bright square; its class says in which half of the frame it is."""

    class_names: Sequence[str] = NAMES

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, frames: np.ndarray) -> list[Detections]:
        self.batches.append(len(frames))
        return [self._one(frame) for frame in frames]

    def _one(self, frame: np.ndarray) -> Detections:
        rows, columns = np.nonzero(frame.mean(2) > 140)
        if not len(rows):
            return Detections.none()
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Detections(boxes=[box], scores=[frame.mean() / 255 + 0.5], labels=[int(box[0] + box[2] > frame.shape[1])])


class CountingStepper(DetectorStepper):
    """Says in every line how many boxes there were before: a frame doubled or missing shows in all that follow."""

    def __init__(self, detector: SquareDetector | None = None) -> None:
        super().__init__(detector or SquareDetector())
        self.seen, self.restored = {"frames": 0, "sum": 0.0}, 0

    def end(self, frames: Sequence[Frame], begun: object) -> list[Step]:
        return [self._count(step) for step in super().end(frames, begun)]

    def _count(self, step: Step) -> Step:
        self.seen = {"frames": self.seen["frames"] + 1, "sum": self.seen["sum"] + float(step.detections.boxes.sum())}
        return Step(detections=step.detections, extra={"before": dict(self.seen)})

    def state(self) -> bytes:
        return json.dumps(self.seen).encode()

    def restore(self, state: bytes) -> None:
        self.seen, self.restored = json.loads(state), self.restored + 1


def draw(image: np.ndarray, detections: Detections) -> np.ndarray:
    return draw_boxes(image, detections, NAMES)


def walk(source: object, folder: Path, *, stepper=None, settings=None, stop=None, overwrite: bool = False, **config) -> dict:
    """A walk in parts of 12 frames."""
    return walk_stream(
        str(source),
        lambda _source: stepper or CountingStepper(),
        folder,
        class_names=NAMES,
        settings=SETTINGS if settings is None else settings,
        config=StreamConfig(**{"part_frames": 12, "batch": 4, **config}),
        draw=draw,
        stop=stop or (lambda: False),
        overwrite=overwrite,
        quiet=True,
    )


def content(folder: Path) -> dict[str, bytes]:
    """The files of a finished run, but for the video and what tells how long it took."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in ("summary.json", "annotated.mp4")}


def check_same(folder: Path, whole: Path) -> None:
    """Two runs left the same: every byte of every file, and of the video the times and the pictures.

    An encoder may code the same pictures differently now and then; frames that follow each other here differ by 20 levels.
    """
    assert content(folder) == content(whole)
    with open_video(folder / "annotated.mp4") as ours, open_video(whole / "annotated.mp4") as theirs:
        np.testing.assert_array_equal(ours.timestamps_s, theirs.timestamps_s)
        pictures_of = [video.frames_at_indices(range(len(video))).astype(np.int16) for video in (ours, theirs)]
    assert np.abs(pictures_of[0] - pictures_of[1]).mean((1, 2, 3)).max() < 5


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "detections.jsonl").read_text(encoding="utf-8").splitlines()]


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target
