"""What a selector learns from: a stream on which the oracle saw every frame."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.models.selector import SIGNALS, selector_input

AGAIN = "mend that, and give the same command again: records that were kept are found"


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectorRecord:
    """One stream of T frames as a student lived through it.

    features: (T, D) float32, the student's. frames_since, last_loss, motion, doubt, boxes: (T,) float32, as in `Observation`.
    disagreement: (T,) float32, 1 - F1 of the student's boxes against the oracle's, in [0, 1]. errors: (T,) float32, how many of the
    student's boxes the oracle has not, and of the oracle's the student has not. called: (T,) bool, the key frames from which it learned.
    Raises ValueError where the lengths differ.
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

    def __post_init__(self) -> None:
        lengths = {name: len(part) for name, part in vars(self).items()}
        if len(set(lengths.values())) != 1 or self.features.ndim != 2:
            raise ValueError(f"the parts of a record are one a frame, features (T, D): {lengths}, {self.features.shape}")

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
        raise DataError(f"not a selector's record: {path}", reason=error, hint="delete it, and it is made anew") from error
