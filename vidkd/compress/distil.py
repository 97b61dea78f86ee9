"""Repair of a compressed detector without boxes: it learns from an oracle on footage, as along a stream but in a drawn order."""

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
from vidkd.compress.config import DistilConfig
from vidkd.compress.recipe import ORIGINAL
from vidkd.detection.frames import Pictures
from vidkd.detection.online import BoxOracle, HeadOracle, Oracle, Student
from vidkd.detection.online.config import LearningConfig
from vidkd.detection.online.distillation import NEEDS_HEADS
from vidkd.detection.online.learner import OnlineTrainer
from vidkd.detection.opening import ModelFiles
from vidkd.models.darknet.detector import DarknetDetector

BATCH = 16
"""Frames at once, where norm statistics are measured."""


def learning_of(config: DistilConfig) -> LearningConfig:
    """How the student learns. Raises ConfigError for settings that cannot be."""
    replay = {"seed": config.seed, **config.replay}
    learning = load_settings(LearningConfig, settings={"update": {"interpolate": [], **config.update}, "replay": replay})
    if learning.update.loss in NEEDS_HEADS and config.oracle != ORIGINAL:
        mend = "oracle: original, or update: {loss: oracle_assigned}"
        raise ConfigError(f"the loss {learning.update.loss} compares raw heads, which {config.oracle} does not share", hint=mend)
    if learning.update.trains == "added":
        raise ConfigError("an added head is trained along a stream alone: trains=added", hint="trains: heads, blocks or all")
    if learning.update.pulls_back:
        raise ConfigError("what was learned is pulled back along a stream alone", hint="leave out interpolate and retain")
    return learning


def oracle_files(config: DistilConfig, device: str = "auto") -> ModelFiles:
    """The files of an oracle that is not the student itself."""
    return ModelFiles(model=config.oracle, metadata=config.metadata, score=config.score, device=device)


def distil(detector: DarknetDetector, original: DarknetDetector, frames: Pictures, config: DistilConfig) -> dict[str, Any]:
    """Teach a detector, in place, from every frame; returns the number of lessons and what became of their updates.

    original: the student before any step, of the same classes, input and heads. Norm statistics do not move while it learns;
    where the settings say so, they are measured anew on the frames before.
    """
    learning, rng = learning_of(config), np.random.default_rng(config.seed)
    student = Student(detector)
    if config.norms:
        # adaptive batch normalisation of Li et al. 2020 (EagleEye, arXiv 2007.02491, section 3.2)
        update_bn(_batches(detector, [frames[number] for number in rng.permutation(len(frames)).tolist()]), student.net)
    oracle = _oracle(config, learning, original, detector)
    pupil = OnlineTrainer(student, oracle, learning.update, learning.replay)
    outcomes: Counter[str] = Counter()
    lessons = [number for _ in range(config.passes) for number in rng.permutation(len(frames)).tolist()]
    started = time.monotonic()
    for place, number in enumerate(Progress(len(lessons), "distil").over(lessons)):
        look = student.detect(frames[number], frame_index=place)
        outcomes[pupil.learn(look, oracle(frames[number])).update.outcome] += 1
    seconds = round(time.monotonic() - started, 2)
    return {"lessons": outcomes.total(), "outcomes": dict(sorted(outcomes.items())), "train_seconds": seconds}


def _batches(detector: DarknetDetector, frames: Pictures) -> Iterator[Tensor]:
    for start in range(0, len(frames), BATCH):
        # one by one, for they may be of unlike sizes
        yield torch.cat([detector.prepare(frame[None])[0] for frame in frames[start : start + BATCH]])


def _oracle(config: DistilConfig, learning: LearningConfig, original: DarknetDetector, detector: DarknetDetector) -> Oracle:
    if config.oracle != ORIGINAL:
        return BoxOracle(oracle_files(config, str(detector.device)).open(), detector.class_names)
    if learning.update.loss in NEEDS_HEADS:
        return HeadOracle(original, detector)
    return BoxOracle(original, detector.class_names)
