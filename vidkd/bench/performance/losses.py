"""The shift-tolerant losses against a training step of the student whose features they match."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from vidkd.bench.performance.rows import Measured, Part, Row, Setting, ratio_row, value_row
from vidkd.bench.performance.training import bare_step, seconds_a_step
from vidkd.bench.speed.rounds import interleave
from vidkd.engine.loop_config import OptimConfig
from vidkd.engine.optimiser import build_optimizer
from vidkd.losses.shift_tolerant import SHIFT_TOLERANT
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.tasks import build_task
from vidkd.tasks.anticipation import AnticipationConfig

AT_MOST, TRANSPORT_AT_MOST = 0.15, 0.4
CLASSES, SEED = 20, 0
STEP = "training step"
TEXT = (
    "Forward and backward of each loss of `vidkd.losses.shift_tolerant`, with the settings that the task gives it, on feature maps of the "
    "student's last stage, against the student's own training step (forward, cross-entropy, backward and optimiser step on one batch that "
    "stays in memory)."
)


@dataclass(frozen=True, kw_only=True)
class Student:
    """A student at its real size: backbone, clips a batch, frames, side of the crop; calls: those that one round averages."""

    backbone: str
    batch: int
    frames: int
    size: int
    calls: int = 1

    @property
    def words(self) -> str:
        """`tiny3d, 16 x 8x64x64`."""
        return f"{self.backbone}, {self.batch} x {self.frames}x{self.size}x{self.size}"


STUDENTS = (Student(backbone="tiny3d", batch=16, frames=8, size=64, calls=3), Student(backbone="x3d_s", batch=2, frames=13, size=160))
QUICK = (Student(backbone="tiny3d", batch=2, frames=4, size=32),)


def run(setting: Setting) -> Part:
    """Every loss and the training step in turn, for every student."""
    torch.set_num_threads(setting.threads)
    students = QUICK if setting.quick else STUDENTS
    values: list[Row] = []
    ratios: list[Row] = []
    shapes: dict[str, str | int | float] = {}
    for student in students:
        bench = Bench(student)
        shapes[f"features of {student.words}"] = "x".join(map(str, bench.student_map.shape))
        measured = interleave(bench.alternatives(calls=student.calls), rounds=setting.rounds)
        values += [value_row(f"{name} ({student.words})", "ms", found) for name, found in measured.items()]
        ratios += [
            ratio_row(f"{name} / {STEP} ({student.words})", measured[name], measured[STEP], at_most=bound(name)) for name in SHIFT_TOLERANT
        ]
    settings = {**shapes, "threads": setting.threads}
    return Part(title="Losses that tolerate shifts", text=TEXT, settings=settings, values=values, ratios=ratios)


def bound(loss: str) -> float:
    """The share of a training step that a loss may take."""
    return TRANSPORT_AT_MOST if loss == "transport" else AT_MOST


class Bench:
    """One student: its training step, and every loss between its features and those of another clip, which stand for a teacher's."""

    def __init__(self, student: Student) -> None:
        torch.manual_seed(SEED)
        self.student = student
        model = VideoClassifier(ModelConfig(backbone=student.backbone), CLASSES, "rgb")
        shape = (student.batch, 3, student.frames, student.size, student.size)
        clips, others = (torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(2))
        self.batch = {"rgb": clips, "label": torch.arange(student.batch) % CLASSES, "weight": torch.ones(student.batch)}
        stage = model.backbone.stages[-1]
        with torch.no_grad():
            self.student_map, self.teacher_map = (model(clip).features[stage].clone() for clip in (clips, others))
        self.task = build_task("supervised", None, model, None).train()
        self.optimizer = build_optimizer(self.task, OptimConfig())

    def alternatives(self, *, calls: int) -> dict[str, Measured]:
        """What is timed, by name: milliseconds a call, the mean of `calls`."""
        step = partial(bare_step, self.task, self.optimizer, cast(dict[str, Any], self.batch), update=True)
        losses = {name: partial(self.backward, name) for name in SHIFT_TOLERANT}
        return {name: partial(milliseconds, call, calls) for name, call in {STEP: step, **losses}.items()}

    def backward(self, name: str) -> None:
        """Forward and backward of a loss."""
        student = self.student_map.clone().requires_grad_()
        loss: Tensor = SHIFT_TOLERANT[name](student, self.teacher_map, **AnticipationConfig(feature=cast(Any, name)).of_feature())
        loss.backward()  # type: ignore[no-untyped-call]


def milliseconds(call: Callable[[], object], calls: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Mean milliseconds of `calls` calls."""
    return 1e3 * seconds_a_step(call, steps=calls, clock=clock)
