"""What one kind of run brings to the training loop: clips of a classifier, annotated frames of a detector."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.data import DataLoader

from vidkd.engine.loop_config import LoopConfig
from vidkd.tasks.task import Trainable

Batch = dict[str, Any]
"""What a loader gives: tensors by name, and under "bad" what could not be read."""


class TrainingRun(ABC):
    """What one kind of run brings to the loop: the task, its batches, how the student is saved and judged.

    task: student, and the losses of a batch. config: the settings. steps: optimiser steps of the whole run. samples: samples of an epoch.
    batch_size: samples of a batch of the loader that count for an epoch. data: hash of what the data say, so that a run never resumes with
    others. most_bad: unreadable samples that are skipped before it is an error. validates: whether there is anything to judge on.
    main_metric: the one by which the best student is kept; more is better.
    """

    main_metric: ClassVar[str]
    config: LoopConfig
    task: Trainable
    steps: int
    samples: int
    batch_size: int
    data: str
    most_bad: int
    validates: bool

    @abstractmethod
    def loader(self, first: int, last: int, *, rank: int, world_size: int, pin_memory: bool) -> DataLoader[Batch]:
        """The batches of loader steps `first` to before `last`, each a function of the seed and its step."""

    @abstractmethod
    def student_payload(self) -> dict[str, Any]:
        """The part of a checkpoint that describes the student: plain values, and its weights as "state"."""

    @abstractmethod
    def judge(self, student: nn.Module, *, device: torch.device, rank: int, world_size: int) -> Mapping[str, float]:
        """Metrics of a student on the validation data, `main_metric` among them; the same in all processes."""

    @abstractmethod
    def sample_names(self, batch: Batch) -> list[str]:
        """Files of the samples of a batch, for messages."""
