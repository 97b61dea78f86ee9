"""Steps of training: of `vidkd train` against the bare computation, of distillation against peers, and of losses that tolerate shifts."""

import copy
import importlib.util
import itertools
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from vidkd.bench.performance.suite import Measured, Part, Setting, milliseconds
from vidkd.bench.performance.videos import CLASSES, TRAINING_DATA, WINDOW
from vidkd.data.cache import ClipCache
from vidkd.data.dataset import collate
from vidkd.data.manifest import Manifest
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.fit import fit
from vidkd.engine.loop_config import OptimConfig
from vidkd.engine.optimiser import build_optimizer
from vidkd.engine.setup import build_run_task, training_set
from vidkd.losses.shift_tolerant import SHIFT_TOLERANT
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.tasks import Task, build_task
from vidkd.tasks.anticipation import AnticipationConfig
from vidkd.tasks.logits_kd import LogitsKD, LogitsKDConfig

BATCH = 16
PLAIN, DISTILLED = "supervised, vidkd train", "attention distillation, vidkd train"
GRADIENT, UPDATE = "supervised, forward + backward alone", "supervised, forward + backward + optimiser alone"
TEXT = (
    "Milliseconds a step of `vidkd train` with all clips in the cache (loading, augmentation, forward, backward, clipping, optimiser, "
    "schedule, logs), against forward and backward alone, without and with the optimiser's update, on one batch that stays in memory; "
    "and of attention distillation (frozen flow teacher, RGB student) against plain supervised training of the same student. The target "
    "is compared with forward and backward without the update."
)


def measure_training(setting: Setting) -> Part:
    """Plain training, its bare computation and attention distillation, in turn."""
    base = _settings(setting)
    _fill_cache(base)
    teacher = fit(load_config(settings={**base, "name": "teacher", "view": "flow", "train": {**base["train"], "steps": 2}}), quiet=True)
    distilled = {**base, "task": "attention_distillation", "teacher": str(teacher.folder)}
    bare, number = load_config(settings=base), itertools.count()
    part = Part(
        title="Training step",
        text=TEXT,
        settings={
            "network": "tiny3d, probabilistic attention",
            "batch": BATCH,
            "clip": "8x64x64",
            "steps a round": base["train"]["steps"],
            "workers": 0,
            "threads": setting.threads,
        },
    )
    alternatives = {
        PLAIN: partial(_trained_ms, base, number),
        GRADIENT: partial(bare_step_ms, bare, update=False),
        UPDATE: partial(bare_step_ms, bare, update=True),
        DISTILLED: partial(_trained_ms, distilled, number),
    }
    ratios = [(PLAIN, GRADIENT, "<= 1.1"), (PLAIN, UPDATE, ""), (DISTILLED, PLAIN, "<= 1.6")]
    part.compare(alternatives, "ms/step", ratios, rounds=setting.rounds)
    return part


def _settings(setting: Setting) -> dict[str, Any]:
    """Settings of a measure_training over the smallest videos, which are soonest in the cache."""
    clips, transform = setting.sets[-1], TRAINING_DATA.transform
    manifest = setting.scratch / "step" / "manifest.jsonl"
    Manifest(name="benchmark", root=clips.root, classes=CLASSES, splits=("1",), clips=clips.clips).write(manifest)
    return {
        "runs": str(manifest.parent / "runs"),
        "data": {
            "root": str(clips.root),
            "manifest": str(manifest),
            "window": {"frames": WINDOW.frames, "stride": WINDOW.stride},
            "transform": {"short_side": transform.short_side, "crop": transform.crop, "min_scale": transform.min_scale},
            "cache": {"enabled": True, "folder": str(manifest.parent / "cache")},
            "batch_size": BATCH,
        },
        "model": {"attention": {"pooling": "probabilistic"}},
        "train": {"steps": 4 if setting.quick else 16, "threads": setting.threads, "device": "cpu"},
    }


def _fill_cache(base: dict[str, Any]) -> None:
    config = load_config(settings=base)
    clips = read_clips(config.data)
    cache = ClipCache(config.data.cache, training_set(clips, config, ["rgb", "flow"]).footage)
    for clip in clips.train:
        cache.read(Path(config.data.root) / clip.path, clip)


def _trained_ms(settings: dict[str, Any], number: Iterator[int]) -> float:
    """Milliseconds a step of a whole measure_training of `vidkd train`, a new one."""
    result = fit(load_config(settings={**settings, "name": f"run-{next(number)}"}), quiet=True)
    return 1e3 * result.seconds / result.steps


def bare_step_ms(config: RunConfig, *, update: bool) -> float:
    """Milliseconds a step of the computation alone, with a new network and optimiser, as a measure_training begins with them.

    update: with the optimiser's step, else forward and backward only.
    """
    clips = read_clips(config.data)
    task = build_run_task(config, clips.manifest.classes)
    task.train()
    dataset = training_set(clips, config, task.views)
    batch = collate([dataset[(0, number % len(dataset))] for number in range(config.data.batch_size)])
    torch.set_num_threads(config.train.threads)
    step = partial(bare_step, task, build_optimizer(task, config.optim), batch, update=update)
    return milliseconds(step, int(config.train.steps or 1))


def bare_step(task: Task, optimizer: Optimizer, batch: dict[str, Any], *, update: bool) -> None:
    """Forward and backward, and with `update` the optimiser's step; gradients are dropped, so that the next ones need not be added."""
    loss: Tensor = task(batch)["loss"]
    loss.backward()  # type: ignore[no-untyped-call]
    if update:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


BATCH, KD_CLASSES, FRAMES, SIDE = 16, 6, 8, 64
TEMPERATURE, ALPHA, LR, DECAY = 4.0, 0.9, 1e-3, 0.05
OURS, BY_HAND, PEER = "vidkd", "two networks, by hand", "torchdistill"
DISTILLATION_TEXT = (
    "Milliseconds a step of logits distillation (frozen teacher forward, student forward and backward, AdamW) on one batch of clips that "
    "stays in memory: vidkd's task, the loop that one writes for two networks, and torchdistill's box. All begin with the same networks, "
    "and their first losses are compared before anything is timed."
)
Step: TypeAlias = Callable[[], Tensor]


def measure_distillation(setting: Setting) -> Part:
    """All of them in turn."""
    torch.set_num_threads(setting.threads)
    steps, clips = (2, 4) if setting.quick else (12, BATCH)
    alternatives = steps_of(clips)
    part = Part(
        title="Distillation step and its peers",
        text=DISTILLATION_TEXT,
        settings={
            "networks": "tiny3d, twice",
            "batch": clips,
            "clip": f"{FRAMES}x{SIDE}x{SIDE}",
            "steps a round": steps,
            "threads": setting.threads,
            "largest difference of the first losses": f"{largest_difference([step() for step in alternatives.values()]):.1e}",
        },
        notes=[] if PEER in alternatives else [f"{PEER} is not installed, and left out (`pip install torchdistill`)."],
    )
    timed = {name: partial(milliseconds, step, steps) for name, step in alternatives.items()}
    part.compare(timed, "ms/step", [(OURS, name, "") for name in timed if name != OURS], rounds=setting.rounds)
    return part


def largest_difference(losses: list[Tensor]) -> float:
    """Of losses that should be one. Raises RuntimeError where they are not, for then the alternatives do not do the same."""
    values = torch.stack([loss.detach() for loss in losses])
    difference = float(values.max() - values.min())
    if difference > 1e-4 * float(values.abs().max()):
        raise RuntimeError(f"the alternatives do not compute the same loss: {values.tolist()}")
    return difference


def steps_of(clips: int) -> dict[str, Step]:
    """One step of each, by name, on the same batch and on copies of the same networks; torchdistill's only where it is installed."""
    torch.manual_seed(0)
    config = ModelConfig(backbone="tiny3d", dropout=0.0)  # what is drawn would differ between the alternatives
    student, teacher = VideoClassifier(config, KD_CLASSES, "rgb"), VideoClassifier(config, KD_CLASSES, "rgb").requires_grad_(False).eval()
    video, label = torch.randint(0, 256, (clips, 3, FRAMES, SIDE, SIDE), dtype=torch.uint8), torch.arange(clips) % KD_CLASSES
    builders = {OURS: _ours, BY_HAND: _by_hand, **({PEER: _by_torchdistill} if importlib.util.find_spec(PEER) else {})}
    return {name: build(copy.deepcopy(student).train(), copy.deepcopy(teacher), video, label) for name, build in builders.items()}


def _ours(student: VideoClassifier, teacher: VideoClassifier, video: Tensor, label: Tensor) -> Step:
    """As the training loop calls a task."""
    task = LogitsKD(LogitsKDConfig(temperature=TEMPERATURE, alpha=ALPHA), student, teacher).train()
    batch = {student.view: video, "label": label, "weight": torch.ones(len(label))}
    return _stepper(task, lambda: task(batch)["loss"])


def _by_hand(student: VideoClassifier, teacher: VideoClassifier, video: Tensor, label: Tensor) -> Step:
    """What a researcher writes without a framework."""

    def loss() -> Tensor:
        with torch.no_grad():
            soft = F.softmax(teacher(video).logits / TEMPERATURE, dim=1)
        logits = student(video).logits
        kl = F.kl_div(F.log_softmax(logits / TEMPERATURE, dim=1), soft, reduction="batchmean")
        return (1 - ALPHA) * F.cross_entropy(logits, label) + ALPHA * TEMPERATURE**2 * kl

    return _stepper(student, loss)


def _stepper(trained: nn.Module, loss: Callable[[], Tensor]) -> Step:
    optimizer = torch.optim.AdamW([each for each in trained.parameters() if each.requires_grad], lr=LR, weight_decay=DECAY)

    def step() -> Tensor:
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value

    return step


def _by_torchdistill(student: VideoClassifier, teacher: VideoClassifier, video: Tensor, label: Tensor) -> Step:
    """The box of torchdistill with its own loss of Hinton's kind."""
    from torchdistill.core.distillation import DistillationBox

    logging.getLogger("torchdistill").setLevel(logging.WARNING)
    box = DistillationBox(Logits(teacher).eval(), Logits(student).train(), {}, _box_settings(), torch.device("cpu"), None, False, 1)

    def step() -> Tensor:
        loss: Tensor = box.forward_process(video, label)
        box.post_forward_process(loss)
        return loss

    return step


class Logits(nn.Module):
    """A classifier whose output is only the logits, as torchdistill's losses want it."""

    def __init__(self, model: VideoClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor) -> Tensor:
        """(B, C) logits."""
        logits: Tensor = self.model(video).logits
        return logits


def _box_settings() -> dict[str, Any]:
    whole = {"forward_proc": "forward_batch_only"}
    output = {f"{side}_module_{what}": value for side in ("student", "teacher") for what, value in (("path", "."), ("io", "output"))}
    loss = {"key": "KDLoss", "kwargs": {**output, "temperature": TEMPERATURE, "alpha": 1 - ALPHA}}
    return {
        "num_epochs": 1,
        "teacher": {**whole, "requires_grad": False},
        "student": whole,
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}}},
        "optimizer": {"key": "AdamW", "kwargs": {"lr": LR, "weight_decay": DECAY}},
    }


LOSS_CLASSES, SEED = 20, 0
STEP = "training step"
TARGETS = {name: "<= 0.4" if name == "transport" else "<= 0.15" for name in SHIFT_TOLERANT}
"""The share of a training step that a loss may take."""
STUDENTS = {"tiny3d": (16, 8, 64, 3), "x3d_s": (2, 13, 160, 1)}
"""Clips a batch, frames, side of the crop, and calls that one round averages."""
QUICK = {"tiny3d": (2, 4, 32, 1)}
LOSSES_TEXT = (
    "Milliseconds of forward and backward of each loss of `vidkd.losses.shift_tolerant`, with the settings that the task gives it, on "
    "feature maps of the student's last stage, against the student's own training step (forward, cross-entropy, backward and optimiser "
    "step on one batch that stays in memory)."
)


def measure_losses(setting: Setting) -> Part:
    """Every loss and the training step in turn, for every student."""
    torch.set_num_threads(setting.threads)
    part = Part(title="Losses that tolerate shifts", text=LOSSES_TEXT, settings={"threads": setting.threads})
    for backbone, (batch, frames, size, calls) in (QUICK if setting.quick else STUDENTS).items():
        ratios = [(name, STEP, target) for name, target in TARGETS.items()]
        where = f" ({backbone}, {batch} x {frames}x{size}x{size})"
        part.compare(loss_alternatives(backbone, batch, frames, size, calls), "ms", ratios, rounds=setting.rounds, where=where)
    return part


def loss_alternatives(backbone: str, batch: int, frames: int, size: int, calls: int) -> dict[str, Measured]:
    """The student's training step, and every loss between its features and those of other clips, which stand for a teacher's."""
    torch.manual_seed(SEED)
    model = VideoClassifier(ModelConfig(backbone=backbone), LOSS_CLASSES, "rgb")
    clips, others = (torch.randint(0, 256, (batch, 3, frames, size, size), dtype=torch.uint8) for _ in range(2))
    stage = model.backbone.stages[-1]
    with torch.no_grad():
        student, teacher = (model(clip).features[stage].clone() for clip in (clips, others))
    task = build_task("supervised", None, model, None).train()
    shown: dict[str, Any] = {"rgb": clips, "label": torch.arange(batch) % LOSS_CLASSES, "weight": torch.ones(batch)}
    step = partial(bare_step, task, build_optimizer(task, OptimConfig()), shown, update=True)
    losses = {name: partial(_backward, name, student, teacher) for name in SHIFT_TOLERANT}
    return {name: partial(milliseconds, call, calls) for name, call in {STEP: step, **losses}.items()}


def _backward(name: str, student: Tensor, teacher: Tensor) -> None:
    settings = AnticipationConfig(feature=cast(Any, name)).of_feature()
    loss: Tensor = SHIFT_TOLERANT[name](student.clone().requires_grad_(), teacher, **settings)
    loss.backward()  # type: ignore[no-untyped-call]
