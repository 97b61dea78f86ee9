"""`anticipate` from file to decisions, against the slower of its halves: decoding the file alone, and judging the same windows alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.clips import FPS, moving_textures
from benchmarks.rounds import Measured, Part, Row, interleave, ratio_row, value_row
from benchmarks.setting import Setting
from vidkd.base.timing import timed
from vidkd.engine.anticipate import Anticipator
from vidkd.engine.classify import TorchClassifier
from vidkd.engine.config import load_config
from vidkd.engine.sight import Sight, sight_of
from vidkd.engine.sources import open_source
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.video import write_video

SIZE = (340, 256)
FRAMES, QUICK_FRAMES = 1500, 150
STEP_S, BATCH, CLASSES = 0.5, 4, 20
AT_LEAST = 0.9
STUDENTS = {"tiny3d": (8, 72, 64), "x3d_s": (13, 182, 160)}
DECODE, MODEL, WHOLE = "decoding alone", "model alone", "anticipate"
TEXT = (
    "Frames a second of `anticipate` without an overlay, opening and closing included, against decoding the file with the same reader and "
    "dropping the frames, and against the forward passes alone, of as many windows in batches of the same size, that stay in memory. The "
    "target is held against the slower of the two in the same round. Where their times are alike, what is left besides (resizing, crops, "
    "the first and the last batch) has to fit into the other's idle time."
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
        slower = slower_of(measured[DECODE], measured[MODEL])
        name = f"{WHOLE} / the slower of {DECODE} and {MODEL}, {backbone}"
        ratios.append(ratio_row(name, measured[WHOLE], slower, at_least=AT_LEAST))
    return Part(
        title="Anticipation along a video",
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
    )


def slower_of(first: list[float], second: list[float]) -> list[float]:
    """The lower speed of each round."""
    return [min(pair) for pair in zip(first, second, strict=True)]


def _alternatives(path: Path, backbone: str, frames: int) -> dict[str, Measured]:
    model, sight = _student(backbone)
    shape = STUDENTS[backbone]
    windows = len(_along(path, model, sight))
    clip_BCTHW = torch.randint(0, 256, (BATCH, 3, shape[0], shape[2], shape[2]), dtype=torch.uint8)
    work: dict[str, Callable[[], object]] = {
        DECODE: partial(_decode, path),
        MODEL: partial(_judge, model, clip_BCTHW, windows),
        WHOLE: partial(_along, path, model, sight),
    }
    return {name: partial(_frames_per_second, each, frames) for name, each in work.items()}


def _student(backbone: str) -> tuple[VideoClassifier, Sight]:
    """A network without training, which computes as one with."""
    frames, short_side, crop = STUDENTS[backbone]
    data = {
        "window": {"frames": frames, "rule": "uniform", "short_clip": "hold"},
        "transform": {"short_side": short_side, "crop": crop},
        "observe": {"protocol": "anticipation", "gap_s": 1.0, "observe_s": 2.0},
        "eval_clips": 1,
    }
    model = VideoClassifier(ModelConfig(backbone=backbone), CLASSES, "rgb").eval()
    return model, sight_of(load_config(settings={"data": data}).data, "rgb")


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


def _along(path: Path, model: VideoClassifier, sight: Sight) -> list[float]:
    anticipator = Anticipator(TorchClassifier(model), sight, step_s=STEP_S, batch=BATCH)
    with open_source(str(path)) as source:
        return [decision.time_s for moment in anticipator.along(source) for decision in moment.decisions]
