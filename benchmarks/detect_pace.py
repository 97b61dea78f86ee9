"""`detect` from file to files, against decoding, the model, and encoding alone."""

import functools
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rounds import Measured, Row, interleave, ratio_row, value_row
from benchmarks.setting import Setting
from benchmarks.stream_models import VIDEO, folder, frames_of_video, open_student
from vidkd.base.timing import timed
from vidkd.detection.stream import DetectorStepper, StreamConfig, open_from, walk_stream
from vidkd.report.boxes import draw_boxes
from vidkd.runtime.detector import Detector
from vidkd.video import VIEWING_CRF, write_video

FRAMES, QUICK_FRAMES, FPS = 640, 32, 10.0
BATCH = 8
AT_LEAST = 0.9
DECODE, MODEL, ENCODE, WHOLE = "decoding alone", "model alone", "encoding alone", "detect"


def detect_rows(student: str, setting: Setting) -> tuple[list[Row], list[Row]]:
    """Frames a second of each, and the ratio of the whole to the slowest stage of the same round."""
    frames = QUICK_FRAMES if setting.quick else FRAMES
    detector = open_student(student, "onnx").detector
    measured = interleave(_alternatives(detector, frames, setting.scratch), rounds=setting.rounds)
    values = [value_row(f"{name}, {student}", "frames/s", found) for name, found in measured.items()]
    name = f"{WHOLE} / the slowest of {DECODE}, {MODEL} and {ENCODE}, {student}"
    return values, [ratio_row(name, measured[WHOLE], slowest_of(measured[DECODE], measured[MODEL], measured[ENCODE]), at_least=AT_LEAST)]


def slowest_of(*speeds: list[float]) -> list[float]:
    """The lowest speed of each round."""
    return [min(each) for each in zip(*speeds, strict=True)]


def _alternatives(detector: Detector, frames: int, scratch: Path) -> dict[str, Measured]:
    pictures = frames_of_video(frames, first=0)
    work: dict[str, Callable[[], object]] = {
        DECODE: partial(_decode, frames),
        MODEL: partial(_look, detector, pictures),
        ENCODE: partial(write_video, scratch / "encoded.mp4", pictures, fps=FPS, crf=VIEWING_CRF),
        WHOLE: partial(_detect, detector, frames, scratch / "detected"),
    }
    return {name: partial(_frames_per_second, each, frames) for name, each in work.items()}


def _frames_per_second(work: Callable[[], object], frames: int) -> float:
    return frames / timed(work)


def _decode(frames: int) -> None:
    with open_from(str(folder() / VIDEO)) as source:
        for _ in itertools.islice(source.frames, frames):
            pass


def _look(detector: Detector, pictures: NDArray[np.uint8]) -> None:
    for start in range(0, len(pictures), BATCH):
        detector(pictures[start : start + BATCH])


def _detect(detector: Detector, frames: int, out: Path) -> None:
    summary = walk_stream(
        str(folder() / VIDEO),
        lambda _source: DetectorStepper(detector),
        out,
        class_names=detector.class_names,
        settings={},
        config=StreamConfig(seconds=frames / FPS, batch=BATCH),
        draw=functools.partial(draw_boxes, class_names=detector.class_names),
        overwrite=True,
        quiet=True,
    )
    assert summary["frames"] == frames, summary["frames"]
