"""A training step of `vidkd train` against the bare computation, and a distillation step against a loop by hand and torchdistill."""

import copy
import importlib.util
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from vidkd.base.timing import timed
from vidkd.bench.performance.rows import Measured, Part, Setting, ratio_row, value_row
from vidkd.bench.performance.videos import CLASSES, TRAINING_DATA, ClipSet
from vidkd.bench.speed.rounds import interleave
from vidkd.data.cache import ClipCache
from vidkd.data.dataset import collate
from vidkd.data.manifest import Manifest
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.fit import fit
from vidkd.engine.optimiser import build_optimizer
from vidkd.engine.setup import build_run_task, training_set
from vidkd.models import VideoClassifier
from vidkd.models.config import ModelConfig
from vidkd.tasks import Task
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


def run(setting: Setting) -> Part:
    """Plain training, its bare computation and attention distillation, in turn."""
    base = _settings(setting)
    _fill_cache(base)
    teacher = fit(load_config(settings={**base, "name": "teacher", "view": "flow", "train": {**base["train"], "steps": 2}}), quiet=True)
    distilled = {**base, "task": "attention_distillation", "teacher": str(teacher.folder)}
    bare = load_config(settings=base)
    alternatives: dict[str, Measured] = {
        PLAIN: Training(base),
        GRADIENT: partial(bare_step_ms, bare, update=False),
        UPDATE: partial(bare_step_ms, bare, update=True),
        DISTILLED: Training(distilled),
    }
    measured = interleave(alternatives, rounds=setting.rounds)
    return Part(
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
        values=[value_row(name, "ms/step", values) for name, values in measured.items()],
        ratios=[
            ratio_row(f"{PLAIN} / {GRADIENT}", measured[PLAIN], measured[GRADIENT], at_most=1.1),
            ratio_row(f"{PLAIN} / {UPDATE}", measured[PLAIN], measured[UPDATE]),
            ratio_row(f"{DISTILLED} / {PLAIN}", measured[DISTILLED], measured[PLAIN], at_most=1.6),
        ],
    )


def _settings(setting: Setting) -> dict[str, Any]:
    """Settings of a run over the smallest videos, which are soonest in the cache."""
    clips = setting.sets[-1]
    manifest = setting.scratch / "step" / "manifest.jsonl"
    _manifest(clips).write(manifest)
    transform = TRAINING_DATA.transform
    return {
        "runs": str(manifest.parent / "runs"),
        "data": {
            "root": str(clips.root),
            "manifest": str(manifest),
            "window": {"frames": TRAINING_DATA.window.frames, "stride": TRAINING_DATA.window.stride},
            "transform": {"short_side": transform.short_side, "crop": transform.crop, "min_scale": transform.min_scale},
            "cache": {"enabled": True, "folder": str(manifest.parent / "cache")},
            "batch_size": BATCH,
        },
        "model": {"attention": {"pooling": "probabilistic"}},
        "train": {"steps": 4 if setting.quick else 16, "threads": setting.threads, "device": "cpu"},
    }


def _manifest(clips: ClipSet) -> Manifest:
    return Manifest(name="benchmark", root=clips.root, classes=CLASSES, splits=("1",), clips=clips.clips)


def _fill_cache(base: dict[str, Any]) -> None:
    config = load_config(settings=base)
    clips = read_clips(config.data)
    cache = ClipCache(config.data.cache, training_set(clips, config, ["rgb", "flow"]).footage)
    for clip in clips.train:
        cache.read(Path(config.data.root) / clip.path, clip)


class Training:
    """Whole runs of `vidkd train`, each new; called, it gives milliseconds a step."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings, self.runs = settings, 0

    def __call__(self) -> float:
        """Train once from the start."""
        self.runs += 1
        name = f"{self.settings.get('task', 'supervised')}-{self.runs}"
        result = fit(load_config(settings={**self.settings, "name": name}), quiet=True)
        return 1e3 * result.seconds / result.steps


def bare_step_ms(config: RunConfig, *, update: bool) -> float:
    """Milliseconds a step of the computation alone, with a new network and optimiser, as a run begins with them.

    update: with the optimiser's step, else forward and backward only.
    """
    clips = read_clips(config.data)
    task = build_run_task(config, clips.manifest.classes)
    task.train()
    dataset = training_set(clips, config, task.views)
    batch = collate([dataset[(0, number % len(dataset))] for number in range(config.data.batch_size)])
    torch.set_num_threads(config.train.threads)
    step = partial(bare_step, task, build_optimizer(task, config.optim), batch, update=update)
    return 1e3 * seconds_a_step(step, steps=int(config.train.steps or 1))


def seconds_a_step(step: Callable[[], object], *, steps: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Mean seconds of `steps` calls, the first included."""

    def all_steps() -> None:
        for _ in range(steps):
            step()

    return timed(all_steps, clock=clock) / steps


def bare_step(task: Task, optimizer: Optimizer, batch: dict[str, Any], *, update: bool) -> None:
    """Forward and backward, and with `update` the optimiser's step; gradients are dropped, so that the next ones need not be added."""
    loss: Tensor = task(batch)["loss"]
    loss.backward()  # type: ignore[no-untyped-call]
    if update:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


DISTIL_CLASSES, FRAMES, SIDE = 6, 8, 64
TEMPERATURE, ALPHA, LR, DECAY = 4.0, 0.9, 1e-3, 0.05
OURS, BY_HAND, PEER = "vidkd", "two networks, by hand", "torchdistill"
DISTIL_TEXT = (
    "Milliseconds a step of logits distillation (frozen teacher forward, student forward and backward, AdamW) on one batch of clips that "
    "stays in memory: vidkd's task, the loop that one writes for two networks, and torchdistill's box. All begin with the same networks, "
    "and their first losses are compared before anything is timed."
)

Step = Callable[[], Tensor]


def run_distillation(setting: Setting) -> Part:
    """All of them in turn."""
    torch.set_num_threads(setting.threads)
    steps, clips = (2, 4) if setting.quick else (12, BATCH)
    bench = DistillBench(clips)
    alternatives, notes = bench.alternatives(), []
    if PEER not in alternatives:
        notes.append(f"{PEER} is not installed, and left out (`pip install torchdistill`).")
    apart = largest_difference([step() for step in alternatives.values()])
    measured = interleave(
        {name: partial(milliseconds, step, steps) for name, step in alternatives.items()},
        rounds=setting.rounds,
    )
    return Part(
        title="Distillation step and its peers",
        text=DISTIL_TEXT,
        settings={
            "networks": "tiny3d, twice",
            "batch": clips,
            "clip": f"{FRAMES}x{SIDE}x{SIDE}",
            "steps a round": steps,
            "threads": setting.threads,
            "largest difference of the first losses": f"{apart:.1e}",
        },
        values=[value_row(name, "ms/step", values) for name, values in measured.items()],
        ratios=[ratio_row(f"{OURS} / {name}", measured[OURS], measured[name]) for name in measured if name != OURS],
        notes=notes,
    )


def milliseconds(step: Step, steps: int) -> float:
    """Of a step, the mean over so many."""
    return 1e3 * seconds_a_step(step, steps=steps)


def largest_difference(losses: list[Tensor]) -> float:
    """Of losses that should be one. Raises RuntimeError where they are not, for then the alternatives do not do the same."""
    values = torch.stack([loss.detach() for loss in losses])
    difference = float(values.max() - values.min())
    if difference > 1e-4 * float(values.abs().max()):
        raise RuntimeError(f"the alternatives do not compute the same loss: {values.tolist()}")
    return difference


class DistillBench:
    """Two networks and a batch; every alternative gets copies of its own, so that none trains another's."""

    def __init__(self, clips: int) -> None:
        torch.manual_seed(0)
        network = ModelConfig(backbone="tiny3d", dropout=0.0)  # what is drawn would differ between the alternatives
        self.student = VideoClassifier(network, DISTIL_CLASSES, "rgb")
        self.teacher = VideoClassifier(network, DISTIL_CLASSES, "rgb").requires_grad_(False).eval()
        self.video = torch.randint(0, 256, (clips, 3, FRAMES, SIDE, SIDE), dtype=torch.uint8)
        self.label = torch.arange(clips) % DISTIL_CLASSES

    def alternatives(self) -> dict[str, Step]:
        """One step of each, by name; torchdistill's only where it is installed."""
        found = {OURS: self.ours(), BY_HAND: self.by_hand()}
        return {**found, PEER: self.peer()} if importlib.util.find_spec(PEER) else found

    def ours(self) -> Step:
        """As the training loop calls a task."""
        student = copy.deepcopy(self.student)
        task = LogitsKD(LogitsKDConfig(temperature=TEMPERATURE, alpha=ALPHA), student, copy.deepcopy(self.teacher)).train()
        batch = {student.view: self.video, "label": self.label, "weight": torch.ones(len(self.label))}
        return _stepper(task, lambda: task(batch)["loss"])

    def by_hand(self) -> Step:
        """What a researcher writes without a framework."""
        student, teacher = copy.deepcopy(self.student).train(), copy.deepcopy(self.teacher)

        def loss() -> Tensor:
            with torch.no_grad():
                soft = F.softmax(teacher(self.video).logits / TEMPERATURE, dim=1)
            logits = student(self.video).logits
            kl = F.kl_div(F.log_softmax(logits / TEMPERATURE, dim=1), soft, reduction="batchmean")
            return (1 - ALPHA) * F.cross_entropy(logits, self.label) + ALPHA * TEMPERATURE**2 * kl

        return _stepper(student, loss)

    def peer(self) -> Step:
        """The box of torchdistill with its own loss of Hinton's kind."""
        from torchdistill.core.distillation import DistillationBox

        logging.getLogger("torchdistill").setLevel(logging.WARNING)
        student, teacher = Logits(copy.deepcopy(self.student)).train(), Logits(copy.deepcopy(self.teacher)).eval()
        box = DistillationBox(teacher, student, {}, _box_settings(), torch.device("cpu"), None, False, 1)

        def step() -> Tensor:
            loss: Tensor = box.forward_process(self.video, self.label)
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


def _stepper(trained: nn.Module, loss: Callable[[], Tensor]) -> Step:
    optimizer = torch.optim.AdamW([each for each in trained.parameters() if each.requires_grad], lr=LR, weight_decay=DECAY)

    def step() -> Tensor:
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value

    return step


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
