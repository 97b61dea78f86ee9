"""Cold starts: a new process imports, opens a model and answers once; timed from outside, from its start to its answer."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vidkd.base.errors import CheckpointError
from vidkd.base.files import reason_of
from vidkd.bench.speed.config import ModelSpec, ShapeSpec
from vidkd.bench.speed.fresh_process import MARK

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
    limit_s: float,
    command: Sequence[str] = COMMAND,
    clock: Callable[[], float] = time.perf_counter,
) -> ColdStart:
    """Start one process and wait for its answer, at most so long. Raises CheckpointError with its last words if there is none."""
    request = {"spec": dataclasses.asdict(spec), "shape": dataclasses.asdict(shape), "threads": threads, "device": device}
    with tempfile.TemporaryFile("w+", errors="replace") as errors:  # an unread pipe would fill
        begun, begun_s = clock(), time.monotonic()
        with _started(command, errors, spec) as process, _ended_after(process, limit_s) as is_late:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # of a process that has ended already; what it said is reported below
                process.stdin.write(json.dumps({**request, "begun_s": begun_s}))
                process.stdin.close()
            line = next((line for line in process.stdout if line.startswith(MARK)), "")
            total_s = clock() - begun  # before the process tidies up
        errors.seek(0)
        words = errors.read()
    if not line and is_late.is_set():
        mend = "a higher cold_start_limit_s, or cold_starts: 0"
        raise CheckpointError(f"a fresh process does not answer within {limit_s:g} s with {spec.what}", hint=mend)
    return _told(line, words, spec, total_s)


def _started(command: Sequence[str], errors: Any, spec: ModelSpec) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # so that it can be ended together with what it has started
        )
    except OSError as error:
        raise CheckpointError(f"a fresh process cannot be started for {spec.what}", reason=reason_of(error)) from error


@contextlib.contextmanager
def _ended_after(process: "subprocess.Popen[str]", limit_s: float) -> Iterator[threading.Event]:
    """End the process where it has not ended by itself in time, or the block was left by an error; the event says whether it was late."""
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        _end(process)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield is_late
        process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _told(line: str, words: str, spec: ModelSpec, total_s: float) -> ColdStart:
    if not line:
        reason = (words.strip().splitlines() or ["it ended without a word"])[-1]
        raise CheckpointError(f"a fresh process cannot answer with {spec.what}", reason=reason)
    try:
        return ColdStart(total_s=total_s, **json.loads(line.removeprefix(MARK)))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"a fresh process gives no whole answer with {spec.what}", reason=str(error)) from error
