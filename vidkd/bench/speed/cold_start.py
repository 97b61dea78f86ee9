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
from collections.abc import Sequence
from dataclasses import dataclass

from vidkd.base.errors import CheckpointError
from vidkd.bench.speed.config import ModelSpec, ShapeSpec
from vidkd.bench.speed.fresh_process import MARK

COMMAND = (sys.executable, "-m", "vidkd.bench.speed.fresh_process")
LIMIT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """One process. total_s: from its start to its answer, interpreter and imports among it. answer_s: of the first answer.

    peak_bytes: the most memory that it held by then; peak_gpu_bytes: the same of a GPU, None without one.
    """

    total_s: float
    answer_s: float
    peak_bytes: int
    peak_gpu_bytes: int | None


def cold_start(
    spec: ModelSpec, *, threads: int, device: str, shape: ShapeSpec, limit_s: float = LIMIT_S, command: Sequence[str] = COMMAND
) -> ColdStart:
    """Start one process and wait for its answer, at most so long. Raises CheckpointError with its last words if there is none."""
    request = {"spec": dataclasses.asdict(spec), "shape": dataclasses.asdict(shape), "threads": threads, "device": device}
    with tempfile.TemporaryFile("w+", errors="replace") as errors:  # an unread pipe would fill
        begun_s = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # so that it can be ended together with what it has started
        )
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(limit_s, _end, [process])
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # of a process that has ended already; its last words are reported below
                process.stdin.write(json.dumps(request))
                process.stdin.close()
            line = next((line for line in process.stdout if line.startswith(MARK)), "")
            total_s = time.monotonic() - begun_s  # before the process tidies up
        finally:
            timer.cancel()
            _end(process)
            process.wait()
        errors.seek(0)
        words = errors.read().strip().splitlines()
    if not line:
        late = [f"no answer within {limit_s:g} s"] if total_s >= limit_s else []
        reason = [*late, *words[-1:], "it exited without output"][0]
        raise CheckpointError(f"a fresh process cannot answer with {spec.what}", reason=reason, hint="or cold_starts: 0")
    return ColdStart(total_s=total_s, **json.loads(line.removeprefix(MARK)))


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process, and all that it has started, where it has not ended by itself."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
