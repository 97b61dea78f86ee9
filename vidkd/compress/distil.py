"""Repair of a compressed detector without boxes: it learns from the whole network on footage, as along a stream but in a drawn order."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from vidkd.base.errors import ConfigError
from vidkd.base.progress import Progress
from vidkd.base.settings import load_settings
from vidkd.compress.recipe import DistilConfig
from vidkd.detection.frames import Pictures
from vidkd.detection.online import BoxOracle, HeadOracle, Student
from vidkd.detection.online.key_frames import NEEDS_HEADS
from vidkd.detection.online.learner import OnlineTrainer
from vidkd.detection.online.update import LearningConfig
from vidkd.models.darknet.detector import DarknetDetector

# Frames at once, where norm statistics are measured.
BATCH = 16


def learning_of(config: DistilConfig) -> LearningConfig:
    """How the student learns. Raises ConfigError for settings that cannot be."""
    learning = load_settings(LearningConfig, settings={"update": {"interpolate": [], **config.update}, "replay": {"seed": config.seed}})
    if learning.update.trains == "added" or learning.update.pulls_back:
        what = "an added head, and pulling back what was learned (interpolate, retain), are for learning along a stream"
        raise ConfigError(what, hint="trains: heads, blocks or all; leave out interpolate and retain")
    return learning


def distil(detector: DarknetDetector, original: DarknetDetector, frames: Pictures, config: DistilConfig) -> dict[str, Any]:
    """Teach a detector, in place, from every frame; returns the number of lessons and what became of their updates.

    original: the student before any step, of the same classes, input and heads. Norm statistics do not move while it learns;
    where the settings say so, they are measured again on the frames before.
    """
    learning, rng = learning_of(config), np.random.default_rng(config.seed)
    student = Student(detector)
    if config.norms:
        # adaptive batch normalisation of Li et al. 2020 (EagleEye, arXiv 2007.02491, section 3.2)
        update_bn(_batches(detector, [frames[number] for number in rng.permutation(len(frames)).tolist()]), student.net)
    heads = learning.update.loss in NEEDS_HEADS
    oracle = HeadOracle(original, detector) if heads else BoxOracle(original, detector.class_names)
    trainer = OnlineTrainer(student, oracle, learning.update, learning.replay)
    outcomes: Counter[str] = Counter()
    lessons = [number for _ in range(config.passes) for number in rng.permutation(len(frames)).tolist()]
    started = time.monotonic()
    for place, number in enumerate(Progress(len(lessons), "distil").over(lessons)):
        output = student.detect(frames[number], frame_index=place)
        outcomes[trainer.learn(output, oracle(frames[number])).update.outcome] += 1
    seconds = round(time.monotonic() - started, 2)
    return {"lessons": outcomes.total(), "outcomes": dict(sorted(outcomes.items())), "train_seconds": seconds}


def _batches(detector: DarknetDetector, frames: Pictures) -> Iterator[Tensor]:
    for start in range(0, len(frames), BATCH):
        # one by one, for they may be of unlike sizes
        yield torch.cat([detector.prepare(frame[None])[0] for frame in frames[start : start + BATCH]])
