"""The shift-tolerant losses against a training step of the student whose features they match."""

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from vidkd.bench.performance.rows import Measured, Part, Setting, milliseconds
from vidkd.bench.performance.training import bare_step
from vidkd.engine.loop_config import OptimConfig
from vidkd.engine.optimiser import build_optimizer
from vidkd.losses.shift_tolerant import SHIFT_TOLERANT
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.tasks import build_task
from vidkd.tasks.anticipation import AnticipationConfig

CLASSES, SEED = 20, 0
STEP = "training step"
TARGETS = {name: "<= 0.4" if name == "transport" else "<= 0.15" for name in SHIFT_TOLERANT}
"""The share of a training step that a loss may take."""
STUDENTS = {"tiny3d": (16, 8, 64, 3), "x3d_s": (2, 13, 160, 1)}
"""Clips a batch, frames, side of the crop, and calls that one round averages."""
QUICK = {"tiny3d": (2, 4, 32, 1)}
TEXT = (
    "Milliseconds of forward and backward of each loss of `vidkd.losses.shift_tolerant`, with the settings that the task gives it, on "
    "feature maps of the student's last stage, against the student's own training step (forward, cross-entropy, backward and optimiser "
    "step on one batch that stays in memory)."
)


def run(setting: Setting) -> Part:
    """Every loss and the training step in turn, for every student."""
    torch.set_num_threads(setting.threads)
    part = Part(title="Losses that tolerate shifts", text=TEXT, settings={"threads": setting.threads})
    for backbone, (batch, frames, size, calls) in (QUICK if setting.quick else STUDENTS).items():
        ratios = [(name, STEP, target) for name, target in TARGETS.items()]
        where = f" ({backbone}, {batch} x {frames}x{size}x{size})"
        part.compare(alternatives(backbone, batch, frames, size, calls), "ms", ratios, rounds=setting.rounds, where=where)
    return part


def alternatives(backbone: str, batch: int, frames: int, size: int, calls: int) -> dict[str, Measured]:
    """The student's training step, and every loss between its features and those of other clips, which stand for a teacher's."""
    torch.manual_seed(SEED)
    model = VideoClassifier(ModelConfig(backbone=backbone), CLASSES, "rgb")
    clips, others = (torch.randint(0, 256, (batch, 3, frames, size, size), dtype=torch.uint8) for _ in range(2))
    stage = model.backbone.stages[-1]
    with torch.no_grad():
        student, teacher = (model(clip).features[stage].clone() for clip in (clips, others))
    task = build_task("supervised", None, model, None).train()
    shown: dict[str, Any] = {"rgb": clips, "label": torch.arange(batch) % CLASSES, "weight": torch.ones(batch)}
    step = partial(bare_step, task, build_optimizer(task, OptimConfig()), shown, update=True)
    losses = {name: partial(_backward, name, student, teacher) for name in SHIFT_TOLERANT}
    return {name: partial(milliseconds, call, calls) for name, call in {STEP: step, **losses}.items()}


def _backward(name: str, student: Tensor, teacher: Tensor) -> None:
    settings = AnticipationConfig(feature=cast(Any, name)).of_feature()
    loss: Tensor = SHIFT_TOLERANT[name](student.clone().requires_grad_(), teacher, **settings)
    loss.backward()  # type: ignore[no-untyped-call]
