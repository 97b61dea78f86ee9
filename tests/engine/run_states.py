"""What a run left on the disk, to compare with what another left, and a disk that is full."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vidkd.base.files import read_jsonl
from vidkd.models.saved import read_checkpoint


def state(folder: Path, name: str = "last") -> dict[str, Any]:
    """A run's checkpoint and metrics, without what depends on the clock and the place."""
    content = read_checkpoint(folder / "checkpoints" / f"{name}.pt")
    del content["run"], content["progress"]["seconds"]
    rows = [{key: value for key, value in row.items() if key != "data_wait"} for row in read_jsonl(folder / "metrics.jsonl")]
    return {**content, "metrics": rows}


def differing(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Dotted names of the values that are not bit-equal."""
    if isinstance(a, torch.Tensor):
        if not (isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)):
            yield where
    elif isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from differing(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for number, pair in enumerate(zip(a, b, strict=True)):
            yield from differing(*pair, f"{where}[{number}]")
    elif a != b:
        yield f"{where}: {a} and {b}"


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    found = list(differing(a, b))
    assert not found, found[:5]
    return True


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
