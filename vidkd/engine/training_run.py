"""What one kind of run brings to the training loop (clips of a classifier, annotated frames of a detector), and what stops it."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vidkd.base.errors import DataError, VidkdError
from vidkd.engine.loop_config import LoopConfig
from vidkd.models.saved import write_checkpoint
from vidkd.tasks.task import Trainable

Batch = dict[str, Any]
"""What a loader gives: tensors by name, and under "bad" what could not be read."""


class TrainingRun(ABC):
    """What one kind of run brings to the loop: the task, its batches, how the student is saved and judged.

    task: student, and the losses of a batch. config: the settings. steps: optimiser steps of the whole run. samples: samples of an epoch.
    batch_size: samples of a batch of the loader that count for an epoch. data: hash of what the data say, so that a run never resumes with
    others. most_bad: unreadable samples that are skipped before it is an error. validates: whether there is anything to judge on.
    fills_cache: whether the first epoch may be slower than the others, because it stores what it decodes.
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
    fills_cache: bool = False

    @abstractmethod
    def loader(self, first: int, last: int, *, rank: int, world_size: int, pin_memory: bool) -> DataLoader[Batch]:
        """The batches of loader steps `first` to before `last`, each a function of the seed and its step."""

    def look_at(self, batch: Batch) -> None:  # noqa: B027
        """Called with each batch of this process, before it is moved to the device; does nothing by default."""

    @abstractmethod
    def student_payload(self) -> dict[str, Any]:
        """The part of a checkpoint that describes the student: plain values, and its weights as "state"."""

    @abstractmethod
    def judge(self, student: nn.Module, *, device: torch.device, rank: int, world_size: int) -> Mapping[str, float]:
        """Metrics of a student on the validation data, `main_metric` among them; the same in all processes."""

    @abstractmethod
    def sample_names(self, batch: Batch) -> list[str]:
        """Files of the samples of a batch, for messages."""


log = logging.getLogger(__name__)


def count_bad_samples(batch: dict[str, Any], known: list[str], *, most: int) -> None:
    """As `count_bad`. Raises DataError, too, if the batch held no readable clip, or none of which anything is observed."""
    count_bad(batch, known, most=most)
    if "index" not in batch and batch.get("unobservable"):
        raise DataError(
            "of no clip of a whole batch anything can be observed", hint="a larger data.batch_size, or larger data.observe.fractions"
        )
    if "index" not in batch:
        raise DataError("no clip of a whole batch could be read", first=known[:1])


def count_bad(batch: dict[str, Any], known: list[str], *, most: int) -> None:
    """Take the batch's unreadable clips out of its entry "bad" and add them to `known`, each clip once whatever its window.

    Raises DataError if more than `most` clips are known then.
    """
    for path, message in batch.pop("bad"):
        if any(earlier.startswith(f"{path}: ") for earlier in known):  # each message begins with the clip's path
            continue
        known.append(message)
        log.warning("skipped unreadable clip %d of at most %d: %s", len(known), most, message)
        _check_number(known, most)


def share_bad(known: list[str], *, most: int) -> None:
    """Give all processes the unreadable clips that any of them has seen, in one order. Raises DataError as `count_bad`."""
    everywhere: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everywhere, known)
    by_path = {message.partition(": ")[0]: message for messages in everywhere for message in messages}
    known[:] = [by_path[path] for path in sorted(by_path)]
    _check_number(known, most)


def _check_number(known: Sequence[str], most: int) -> None:
    if len(known) > most:
        raise DataError(
            f"training clips that cannot be read: {len(known)}",
            first=known[-1],
            hint="vidkd prepare_data check DIR finds all of them, and with --normalise OUT writes clean copies of what can be read; "
            "data.max_bad_clips (detectors: max_bad_files) says how many to skip",
        )


def not_finite(
    what: str, step: int, batch: Mapping[str, Any], losses: Mapping[str, float], names: Sequence[str], folder: Path
) -> VidkdError:
    """The error for a loss or gradient that is not finite; the batch that made it is kept as `folder`/bad_batch.pt."""
    path = folder / "bad_batch.pt"
    try:
        write_checkpoint(path, {"batch": {name: value for name, value in batch.items() if isinstance(value, Tensor)}, "student": {}})
        kept = f"saved to {path}"
    except OSError as error:  # what went wrong before the disk was full is worth more than the batch
        kept = f"not saved to {path}: {error.strerror or error}"
    return VidkdError(
        f"the {what} is not finite at step {step}",
        losses=", ".join(f"{name} {value}" for name, value in losses.items()),
        samples=", ".join(names[:4]) + ("…" if len(names) > 4 else ""),
        batch=kept,
        hint="a smaller optim.lr, or optim.clip_norm; the last checkpoint is from before this step",
    )
