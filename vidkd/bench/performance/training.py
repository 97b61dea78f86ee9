"""A training step of `vidkd train` against the bare computation, and attention distillation against plain training."""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vidkd.bench.performance.rows import Part, Setting, milliseconds
from vidkd.bench.performance.videos import CLASSES, TRAINING_DATA, WINDOW
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
    "is compared with forward and backward without the update."
)


def run(setting: Setting) -> Part:
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
    """Settings of a run over the smallest videos, which are soonest in the cache."""
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
    """Milliseconds a step of a whole run of `vidkd train`, a new one."""
    result = fit(load_config(settings={**settings, "name": f"run-{next(number)}"}), quiet=True)
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
    return milliseconds(step, int(config.train.steps or 1))


def bare_step(task: Task, optimizer: Optimizer, batch: dict[str, Any], *, update: bool) -> None:
    """Forward and backward, and with `update` the optimiser's step; gradients are dropped, so that the next ones need not be added."""
    loss: Tensor = task(batch)["loss"]
    loss.backward()  # type: ignore[no-untyped-call]
    if update:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
