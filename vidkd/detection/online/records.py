"""Records for the training of a selector: a student along a stream on which the oracle saw every frame."""

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.detection.online.learner import SynchronousLearner, agreement_of
from vidkd.detection.online.oracle import ask
from vidkd.models.selector import SIGNALS, selector_input

AGAIN = "fix that, and repeat the same command: finished records are reused"


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectorRecord:
    """One stream of T frames as a student lived through it.

    features: (T, D) float32, the student's. frames_since, last_loss, motion, doubt, boxes: (T,) float32, as in `Observation`.
    disagreement: (T,) float32, 1 - F1 of the student's boxes against the oracle's, in [0, 1]. errors: (T,) float32, how many of the
    student's boxes the oracle has not, and of the oracle's the student has not. called: (T,) bool, the key frames from which it learned.
    """

    features: NDArray[np.float32]
    frames_since: NDArray[np.float32]
    last_loss: NDArray[np.float32]
    motion: NDArray[np.float32]
    doubt: NDArray[np.float32]
    boxes: NDArray[np.float32]
    disagreement: NDArray[np.float32]
    errors: NDArray[np.float32]
    called: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.disagreement)

    @property
    def inputs(self) -> Tensor:
        """(T, D + 5) float32 of `selector_input`."""
        return selector_input(torch.from_numpy(self.features), **{name: torch.from_numpy(getattr(self, name)) for name in SIGNALS})


def write_record(path: Path | str, record: SelectorRecord, made_from: Mapping[str, str]) -> None:
    """Write a record as .npz, whole or not at all. made_from: what it depends on, kept too. Raises DataError if it cannot be written."""
    try:
        with atomic_write(path, "wb") as file:
            np.savez_compressed(file, made_from=np.asarray(json.dumps(dict(made_from), sort_keys=True)), **vars(record))
    except OSError as error:
        raise DataError(f"cannot keep a selector's record: {path}", reason=error.strerror or error, hint=AGAIN) from error


def read_record(path: Path | str) -> tuple[SelectorRecord, dict[str, str]]:
    """A record and what it was made from. Raises DataError for a file that is missing, damaged or something else."""
    try:
        with np.load(path, allow_pickle=False) as content:
            parts = {field.name: content[field.name] for field in fields(SelectorRecord)}
            return SelectorRecord(**parts), dict(json.loads(str(content["made_from"])))
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"not a selector's record: {path}", reason=error, hint="delete it, and it is made again") from error


log = logging.getLogger(__name__)


def record_stream(learner: SynchronousLearner, frames: Iterable[NDArray[np.uint8]]) -> SelectorRecord:
    """Let the learner run along frames (H, W, 3), asking its oracle on every one, and keep what a selector would have seen.

    The learner learns from the key frames of its own policy only, so a record holds a student as it will be; with `Update(steps=0)` one
    that stays frozen. A policy that calls at random shows the selector every number of frames since a call. Raises DataError where there
    is no frame, or the oracle throws: a record without its answer would be none.
    """
    features, rows = [], []
    for frame in frames:
        answer, failed = ask(learner.oracle, frame)
        if answer is None:
            raise DataError(f"the oracle failed at frame {learner.position} of the stream", reason=failed, hint=AGAIN)
        step = learner.step(frame, answer=answer)
        counts = agreement_of(step.output, answer, score=learner.trainer.score)
        errors = float(counts.false_positives.sum() + counts.false_negatives.sum())
        features.append(step.observation.features)
        rows.append((*(getattr(step.observation, name) for name in SIGNALS), 1 - counts.f1, errors, step.record.called))
    if not rows:
        raise DataError("a stream without frames leaves no record")
    columns = dict(zip((*SIGNALS, "disagreement", "errors", "called"), np.asarray(rows, np.float32).T, strict=True))
    return SelectorRecord(features=np.stack(features), **{**columns, "called": columns["called"] > 0})


def cached_record(folder: Path | str, made_from: Mapping[str, str], make: Callable[[], SelectorRecord]) -> SelectorRecord:
    """The record of `folder` that was made from just this, else a new one, which is kept there as .npz.

    made_from: all that the record depends on by name, such as hashes of the student's weights, the oracle and the video, and the settings.
    A damaged file is replaced, and logged.
    """
    content = json.dumps(dict(made_from), sort_keys=True)
    path = Path(folder) / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.npz"
    if path.exists():
        try:
            return read_record(path)[0]
        except DataError as error:
            log.warning("made again: %s", error)
    record = make()
    write_record(path, record, made_from)
    return record
