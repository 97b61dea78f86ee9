"""Anticipation and detection along a video, compared with the slowest of their stages."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.timing import timed
from vidkd.bench.performance.rows import Measured, Part, Row, Setting, ratio_row, value_row
from vidkd.bench.performance.stream_models import STUDENTS as DETECTORS
from vidkd.bench.performance.stream_models import VIDEO, folder, frames_of_video, open_student, why_absent
from vidkd.bench.performance.videos import FPS, moving_textures
from vidkd.bench.speed.rounds import interleave
from vidkd.detection.stream import DetectorStepper, StreamConfig, walk_stream
from vidkd.engine.config import load_config
from vidkd.inference.anticipate import Anticipator
from vidkd.inference.observation_window import ObservationWindow, observation_window
from vidkd.inference.sources import open_source
from vidkd.inference.torch_classifier import TorchClassifier
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.runtime.detector import Detector
from vidkd.video import VIEWING_CRF, write_video

SIZE = (340, 256)
FRAMES, QUICK_FRAMES = 1500, 150
STEP_S, BATCH, CLASSES = 0.5, 4, 20
AT_LEAST = 0.9
STUDENTS = {"tiny3d": (8, 72, 64), "x3d_s": (13, 182, 160)}
DECODE, MODEL, ENCODE, WHOLE, DETECT = "decoding alone", "model alone", "encoding alone", "anticipate", "detect"
DETECT_FRAMES, QUICK_DETECT_FRAMES, STREAM_FPS, DETECT_BATCH = 640, 32, 10.0, 8
TEXT = (
    "Frames a second of `anticipate` without an overlay, opening and closing included, against decoding the file with the same reader and "
    "dropping the frames, and against the forward passes alone, of as many windows in batches of the same size, that stay in memory. The "
    "target is compared with the slower of the two in the same round. `detect` (Yolo-Fastest, from a file to annotated video and all other "
    "files) is compared with the slowest of decoding, the model and encoding."
)


def run(setting: Setting) -> Part:
    """Both students along one generated video."""
    torch.set_num_threads(1)  # one core decodes, one computes
    frames = QUICK_FRAMES if setting.quick else FRAMES
    path = setting.scratch / "anticipate" / "long.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, moving_textures(*SIZE, frames, seed=0), fps=FPS)
    values: list[Row] = []
    ratios: list[Row] = []
    for backbone in list(STUDENTS)[: 1 if setting.quick else None]:
        measured = interleave(_alternatives(path, backbone, frames), rounds=setting.rounds)
        values += [value_row(f"{name}, {backbone}", "frames/s", found) for name, found in measured.items()]
        slower = slowest_of(measured[DECODE], measured[MODEL])
        name = f"{WHOLE} / the slower of {DECODE} and {MODEL}, {backbone}"
        ratios.append(ratio_row(name, measured[WHOLE], slower, at_least=AT_LEAST))
    notes = [reason] if (reason := why_absent()) is not None else []
    if not notes:
        pace_values, pace_ratios = detect_rows(next(iter(DETECTORS)), setting)
        values += pace_values
        ratios += pace_ratios
    return Part(
        title="Anticipation and detection along a video",
        text=TEXT,
        settings={
            "video": f"{SIZE[0]}x{SIZE[1]}, H.264, {frames / FPS:g} s",
            "windows": "; ".join(f"{name} {shape[0]}x{shape[2]}x{shape[2]}" for name, shape in STUDENTS.items()),
            "seconds from decision to decision": STEP_S,
            "decisions a batch": BATCH,
            "threads of the model": 1,
        },
        values=values,
        ratios=ratios,
        notes=notes,
    )


def slowest_of(*speeds: list[float]) -> list[float]:
    """The lowest speed of each round."""
    return [min(each) for each in zip(*speeds, strict=True)]


def _alternatives(path: Path, backbone: str, frames: int) -> dict[str, Measured]:
    model, observation = _student(backbone)
    shape = STUDENTS[backbone]
    windows = len(_along(path, model, observation))
    clip_BCTHW = torch.randint(0, 256, (BATCH, 3, shape[0], shape[2], shape[2]), dtype=torch.uint8)
    work: dict[str, Callable[[], object]] = {
        DECODE: partial(_decode, path),
        MODEL: partial(_judge, model, clip_BCTHW, windows),
        WHOLE: partial(_along, path, model, observation),
    }
    return {name: partial(_frames_per_second, each, frames) for name, each in work.items()}


def _student(backbone: str) -> tuple[VideoClassifier, ObservationWindow]:
    """A network without training, which computes as one with."""
    frames, short_side, crop = STUDENTS[backbone]
    data = {
        "window": {"frames": frames, "rule": "uniform", "short_clip": "hold"},
        "transform": {"short_side": short_side, "crop": crop},
        "observe": {"protocol": "anticipation", "gap_s": 1.0, "observe_s": 2.0},
        "eval_clips": 1,
    }
    model = VideoClassifier(ModelConfig(backbone=backbone), CLASSES, "rgb").eval()
    return model, observation_window(load_config(settings={"data": data}).data, "rgb")


def _frames_per_second(work: Callable[[], object], frames: int) -> float:
    return frames / timed(work)


def _decode(path: Path) -> None:
    with open_source(str(path)) as source:
        for _ in source.frames:
            pass


def _judge(model: VideoClassifier, clip_BCTHW: torch.Tensor, windows: int) -> None:
    with torch.inference_mode():
        for start in range(0, windows, BATCH):
            model(clip_BCTHW[: windows - start]).logits.double().softmax(1)


def _along(path: Path, model: VideoClassifier, observation: ObservationWindow) -> list[float]:
    anticipator = Anticipator(TorchClassifier(model), observation, step_s=STEP_S, batch=BATCH)
    with open_source(str(path)) as source:
        return [decision.time_s for moment in anticipator.along(source) for decision in moment.decisions]


def detect_rows(student: str, setting: Setting) -> tuple[list[Row], list[Row]]:
    """Frames a second of each, and the ratio of the whole to the slowest stage of the same round."""
    frames = QUICK_DETECT_FRAMES if setting.quick else DETECT_FRAMES
    detector = open_student(student, "onnx").detector
    measured = interleave(_detect_alternatives(detector, frames, setting.scratch), rounds=setting.rounds)
    values = [value_row(f"{name}, {student}", "frames/s", found) for name, found in measured.items()]
    name = f"{DETECT} / the slowest of {DECODE}, {MODEL} and {ENCODE}, {student}"
    return values, [ratio_row(name, measured[DETECT], slowest_of(measured[DECODE], measured[MODEL], measured[ENCODE]), at_least=AT_LEAST)]


def _detect_alternatives(detector: Detector, frames: int, scratch: Path) -> dict[str, Measured]:
    pictures = frames_of_video(frames, first=0)
    work: dict[str, Callable[[], object]] = {
        DECODE: partial(_decode_stream, frames),
        MODEL: partial(_look, detector, pictures),
        ENCODE: partial(write_video, scratch / "encoded.mp4", pictures, fps=STREAM_FPS, crf=VIEWING_CRF),
        DETECT: partial(_detect, detector, frames, scratch / "detected"),
    }
    return {name: partial(_frames_per_second, each, frames) for name, each in work.items()}


def _decode_stream(frames: int) -> None:
    with open_source(str(folder() / VIDEO)) as source:
        for _ in itertools.islice(source.frames, frames):
            pass


def _look(detector: Detector, pictures: NDArray[np.uint8]) -> None:
    for start in range(0, len(pictures), DETECT_BATCH):
        detector(pictures[start : start + DETECT_BATCH])


def _detect(detector: Detector, frames: int, out: Path) -> None:
    summary = walk_stream(
        str(folder() / VIDEO),
        lambda _source: DetectorStepper(detector),
        out,
        class_names=detector.class_names,
        settings={},
        config=StreamConfig(seconds=frames / STREAM_FPS, batch=DETECT_BATCH),
        draw=_undrawn,
        overwrite=True,
        quiet=True,
    )
    assert summary["frames"] == frames, summary["frames"]


def _undrawn(image: NDArray[np.uint8], _: Any) -> NDArray[np.uint8]:
    """Drawing is not measured."""
    return image
