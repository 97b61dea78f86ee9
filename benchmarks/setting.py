"""What all parts are handed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clips import ClipSet


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Videos and extent of a measurement.

    sets: videos, a set a kind. scratch: folder for what the parts write. rounds: rounds that count. workers: loader processes.
    threads: threads of training. quick: only as much as shows that everything runs.
    """

    sets: Sequence[ClipSet]
    scratch: Path
    rounds: int
    workers: int
    threads: int
    quick: bool
