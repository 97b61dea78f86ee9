"""Checkpoints: whole or not there, with the state before kept next to the last, and everything that an exact resume needs."""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.base.files import writing
from vidkd.models.saved import read_checkpoint, write_checkpoint

FORMAT = 1
log = logging.getLogger(__name__)


@dataclass
class Progressed:
    """How far a run has come: what is saved next to the weights and continues after a resume."""

    step: int = 0
    best: float | None = None
    best_step: int | None = None
    validations_without_gain: int = 0
    bad_clips: list[str] = field(default_factory=list)
    seconds: float = 0.0
    stopped_early: bool = False
    finished: bool = False


def save_checkpoint(folder: Path, content: Mapping[str, Any], *, keep_last: bool = True) -> None:
    """Write `last.pt` in `folder` atomically; the `last.pt` of before becomes `previous.pt`. At every moment one of them is whole.

    keep_last: false where `last.pt` is no good and the run has gone back to `previous.pt`, which then stays what it is.
    Raises WriteError if the disk is full or cannot be written; what was there before stays.
    """
    last, previous, new = folder / "last.pt", folder / "previous.pt", folder / ".new.pt"
    with writing(last):
        # The new one is whole before anything that was there changes its name: `last` may be a damaged one, and `previous` all there is.
        write_checkpoint(new, {"format": FORMAT, **content})
        if keep_last and last.exists():
            _keep(last, previous)
        os.replace(new, last)


def _keep(last: Path, previous: Path) -> None:
    """Give the last checkpoint the name `previous` as well, without a moment in which either name is missing."""
    second = previous.with_name(f".{previous.name}")
    second.unlink(missing_ok=True)
    try:
        os.link(last, second)
    except OSError:  # a file system without hard links
        shutil.copyfile(last, second)
    os.replace(second, previous)


def resume_file(folder: Path, resume: str) -> Path | None:
    """The checkpoint to resume from: `last.pt`, or `previous.pt` only if the user says so; None where there is none yet.

    Raises CheckpointError if the one asked for is missing where the other is there: none replaces the other, and no run is begun.
    """
    last, previous = folder / "last.pt", folder / "previous.pt"
    if resume == "previous":
        if not previous.exists():
            raise CheckpointError(f"there is no {previous} to resume from")
        return previous
    if last.exists():
        return last
    if previous.exists():
        raise CheckpointError(
            f"{last} is missing, but {previous.name} is there",
            hint="run again with --resume previous to resume from the state before, or use another --name",
        )
    return None


def read_resume(path: Path) -> dict[str, Any]:
    """A training checkpoint's content. Raises CheckpointError if it is damaged or holds no optimiser (an exported student)."""
    content = read_checkpoint(path)
    if "optimizer" not in content:
        raise CheckpointError(f"{path} holds a student, not the state of a training run")
    return content


def check_same_data(content: Mapping[str, Any], data: str, run: Path, *, another: str = "another --name") -> None:
    """Raise ConfigError if the run of this checkpoint's content was trained on other data than those with the hash `data`.

    another: how the user names another run in its place.
    """
    if content.get("data", data) != data:
        raise ConfigError(
            f"the run {run} was trained on other data: the manifest does not say the same",
            hint=f"{another}, or move the run away",
        )


def is_finished(run: Path) -> bool:
    """Whether the run of this folder trained to its end. Raises CheckpointError if its checkpoint is damaged."""
    path = run / "checkpoints" / "last.pt"
    return path.exists() and bool(read_resume(path)["progress"]["finished"])


def warn_if_unfinished(path: Path | str) -> None:
    """Log the step of the run in this folder if it has not trained to its end, or that its last checkpoint is damaged.

    A checkpoint file is used without a check.
    """
    last = Path(path) / "checkpoints" / "last.pt"
    if not last.exists():
        return
    try:
        progress = read_checkpoint(last).get("progress")  # a student that no run left has none
    except CheckpointError as error:  # its best checkpoint may be whole
        log.warning("%s", error)
        return
    if progress is not None and not progress["finished"]:
        log.warning("%s is not finished: its last checkpoint is from step %d", path, progress["step"])


def to_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict on the CPU."""
    return {name: value.detach().cpu() for name, value in state.items()}
