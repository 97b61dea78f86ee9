"""Cold starts: a new process imports, opens a model and answers once; timed from outside, from its start to its answer."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vidkd.base.errors import CheckpointError
from vidkd.bench.speed.config import ModelSpec, ShapeSpec

COMMAND = (sys.executable, "-m", "vidkd.bench.speed.fresh_process")


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """One process. total_s: from its start to its answer, interpreter and imports among it. ready_s: of it until the model was open.

    answer_s: of the first answer. peak_bytes: the most memory that it held by then; peak_gpu_bytes: the same of a GPU, None without one.
    torch: whether torch was imported.
    """

    total_s: float
    ready_s: float
    answer_s: float
    peak_bytes: int
    peak_gpu_bytes: int | None
    torch: bool


def cold_start(
    spec: ModelSpec,
    *,
    threads: int,
    device: str,
    shape: ShapeSpec,
    command: Sequence[str] = COMMAND,
    clock: Callable[[], float] = time.perf_counter,
) -> ColdStart:
    """Start one process and wait for its answer. Raises CheckpointError with its last words if there is none."""
    request = {"spec": dataclasses.asdict(spec), "shape": dataclasses.asdict(shape), "threads": threads, "device": device}
    with tempfile.TemporaryFile("w+") as errors:  # a pipe that nobody reads would fill
        begun = clock()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # of a process that has ended already; what it said is told below
                process.stdin.write(json.dumps(request))
                process.stdin.close()
            line = process.stdout.readline()
            total_s = clock() - begun  # before the process tidies up
        errors.seek(0)
        words = errors.read()
    return ColdStart(total_s=total_s, **_told(line, words, spec))


def _told(line: str, words: str, spec: ModelSpec) -> dict[str, Any]:
    if not line:
        reason = (words.strip().splitlines() or ["it ended without a word"])[-1]
        raise CheckpointError(f"a fresh process cannot answer with {spec.what}", reason=reason)
    told: dict[str, Any] = json.loads(line)
    return told
