"""A training step fed from the cache, against the bare computation, and distillation against plain training."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.clips import CLASSES, TRAINING_DATA, ClipSet
from benchmarks.rounds import Part, interleave, ratio_row, value_row
from benchmarks.setting import Setting
from vidkd.base.timing import timed
from vidkd.data.cache import ClipCache
from vidkd.data.dataset import collate
from vidkd.data.manifest import Manifest
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.fit import fit
from vidkd.engine.optimiser import build_optimizer
from vidkd.engine.setup import build_run_task, training_set
from vidkd.tasks import Task

BATCH = 16
PLAIN, DISTILLED = "supervised, vidkd train", "attention distillation, vidkd train"
GRADIENT, UPDATE = "supervised, forward + backward alone", "supervised, forward + backward + optimiser alone"
TEXT = (
    "Milliseconds a step of `vidkd train` with all clips in the cache (loading, augmentation, forward, backward, clipping, optimiser, "
    "schedule, logs), against forward and backward alone, without and with the optimiser's update, on one batch that stays in memory; "
    "and of attention distillation (frozen flow teacher, RGB student) against plain supervised training of the same student. The target "
    "is held against forward and backward without the update."
)


def run(setting: Setting) -> Part:
    """Plain training, its bare computation and attention distillation, in turn."""
    base = _settings(setting)
    _fill_cache(base)
    teacher = fit(load_config(settings={**base, "name": "teacher", "view": "flow", "train": {**base["train"], "steps": 2}}), quiet=True)
    distilled = {**base, "task": "attention_distillation", "teacher": str(teacher.folder)}
    bare = load_config(settings=base)
    measured = interleave(
        {
            PLAIN: Training(base),
            GRADIENT: partial(bare_step_ms, bare, update=False),
            UPDATE: partial(bare_step_ms, bare, update=True),
            DISTILLED: Training(distilled),
        },
        rounds=setting.rounds,
    )
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
