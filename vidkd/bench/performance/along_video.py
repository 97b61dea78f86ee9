"""Anticipation and detection along a video, compared with the slowest of their stages."""

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.bench.performance.streams import STUDENTS as DETECTORS
from vidkd.bench.performance.streams import VIDEO, folder, frames_of_video, open_student, why_absent
from vidkd.bench.performance.suite import Part, Setting, per_second, ratio_row
from vidkd.bench.performance.videos import FPS, moving_textures
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
STUDENTS = {"tiny3d": (8, 72, 64), "x3d_s": (13, 182, 160)}
"""Frames of a window, shorter side and crop."""
DECODE, MODEL, ENCODE, WHOLE, DETECT = "decoding alone", "model alone", "encoding alone", "anticipate", "detect"
DETECT_FRAMES, QUICK_DETECT_FRAMES, STREAM_FPS, DETECT_BATCH = 640, 32, 10.0, 8
TEXT = (
    "Frames a second of `anticipate` without an overlay, opening and closing included, against decoding the file with the same reader and "
    "dropping the frames, and against the forward passes alone, of as many windows in batches of the same size, that stay in memory. The "
    "target is compared with the slower of the two in the same round. `detect` (Yolo-Fastest, from a file to annotated video and all other "
    "files) is compared with the slowest of decoding, the model and encoding."
)


def measure_along_video(setting: Setting) -> Part:
    """Both students along one generated video."""
    torch.set_num_threads(1)  # one core decodes, one computes
    frames = QUICK_FRAMES if setting.quick else FRAMES
    path = setting.scratch / "long.mp4"
    write_video(path, moving_textures(*SIZE, frames, seed=0), fps=FPS)
    part = Part(
        title="Anticipation and detection along a video",
        text=TEXT,
        settings={
            "video": f"{SIZE[0]}x{SIZE[1]}, H.264, {frames / FPS:g} s",
            "windows": "; ".join(f"{name} {shape[0]}x{shape[2]}x{shape[2]}" for name, shape in STUDENTS.items()),
            "seconds from decision to decision": STEP_S,
            "decisions a batch": BATCH,
            "threads of the model": 1,
        },
        notes=why_absent(),
    )
    for backbone in list(STUDENTS)[: 1 if setting.quick else None]:
        _compare(part, _anticipation(path, backbone), frames, WHOLE, backbone, setting.rounds)
    if not part.notes:
        student, frames = next(iter(DETECTORS)), QUICK_DETECT_FRAMES if setting.quick else DETECT_FRAMES
        detector = open_student(student, "onnx").detector
        _compare(part, _detection(detector, frames, setting.scratch), frames, DETECT, student, setting.rounds)
    return part


def _compare(part: Part, work: Mapping[str, Callable[[], object]], frames: int, whole: str, model: str, rounds: int) -> None:
    """Rows of the whole and its stages, and of the whole to the slowest of these in the same round."""
    measured = part.compare(
        {name: partial(per_second, each, frames) for name, each in work.items()}, "frames/s", rounds=rounds, where=f", {model}"
    )
    stages = [name for name in work if name != whole]
    slowest = [min(each) for each in zip(*(measured[name] for name in stages), strict=True)]
    part.ratios.append(ratio_row(f"{whole} / the slowest of {', '.join(stages)}, {model}", measured[whole], slowest, ">= 0.9"))


def _anticipation(path: Path, backbone: str) -> dict[str, Callable[[], object]]:
    """A network without training, which computes as one with."""
    frames, short_side, crop = STUDENTS[backbone]
    data = {
        "window": {"frames": frames, "rule": "uniform", "short_clip": "hold"},
        "transform": {"short_side": short_side, "crop": crop},
        "observe": {"protocol": "anticipation", "gap_s": 1.0, "observe_s": 2.0},
        "eval_clips": 1,
    }
    model = VideoClassifier(ModelConfig(backbone=backbone), CLASSES, "rgb").eval()
    observation = observation_window(load_config(settings={"data": data}).data, "rgb")
    windows = len(_along(path, model, observation))
    clip_BCTHW = torch.randint(0, 256, (BATCH, 3, frames, crop, crop), dtype=torch.uint8)
    return {
        DECODE: partial(_decode, path, None),
        MODEL: partial(_judge, model, clip_BCTHW, windows),
        WHOLE: partial(_along, path, model, observation),
    }


def _decode(path: Path, frames: int | None) -> None:
    """So many frames, or all."""
    with open_source(str(path)) as source:
        for _ in itertools.islice(source.frames, frames):
            pass


def _judge(model: VideoClassifier, clip_BCTHW: torch.Tensor, windows: int) -> None:
    with torch.inference_mode():
        for start in range(0, windows, BATCH):
            model(clip_BCTHW[: windows - start]).logits.double().softmax(1)


def _along(path: Path, model: VideoClassifier, observation: ObservationWindow) -> list[float]:
    anticipator = Anticipator(TorchClassifier(model), observation, step_s=STEP_S, batch=BATCH)
    with open_source(str(path)) as source:
        return [decision.time_s for moment in anticipator.along(source) for decision in moment.decisions]


def _detection(detector: Detector, frames: int, scratch: Path) -> dict[str, Callable[[], object]]:
    pictures = frames_of_video(frames, first=0)
    batches = [pictures[start : start + DETECT_BATCH] for start in range(0, frames, DETECT_BATCH)]
    return {
        DECODE: partial(_decode, folder() / VIDEO, frames),
        MODEL: lambda: [detector(batch) for batch in batches],
        ENCODE: partial(write_video, scratch / "encoded.mp4", pictures, fps=STREAM_FPS, crf=VIEWING_CRF),
        DETECT: partial(_detect, detector, frames, scratch / "detected"),
    }


def _detect(detector: Detector, frames: int, out: Path) -> None:
    walk_stream(
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


def _undrawn(image: NDArray[np.uint8], _: Any) -> NDArray[np.uint8]:
    """Drawing is not measured."""
    return image
