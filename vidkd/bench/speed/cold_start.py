"""Cold starts: a new process imports, opens a model and answers once; timed from outside, from its start to its answer.

The process is this module run as `python -m vidkd.bench.speed.cold_start`: a request comes as JSON on standard input, a line goes back
that begins with MARK, for libraries may write to standard output too.
An exported file is opened without torch, as `vidkd predict` opens it.
"""

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
from pathlib import Path
from typing import Any

from vidkd.base.errors import CheckpointError, VidkdError
from vidkd.bench.speed.config import ModelSpec, ShapeSpec

COMMAND = (sys.executable, "-m", "vidkd.bench.speed.cold_start")
LIMIT_S = 300.0
MARK = "vidkd cold start: "


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


def main() -> int:
    """Answer one request: {"spec", "shape", "threads", "device"}."""
    request = json.load(sys.stdin)
    try:
        found = start(request)
    except VidkdError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")  # on a line of its own, whatever was written before
    return 0


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Open the model and answer one sample of noise."""
    from vidkd.bench.speed.opening import open_model
    from vidkd.bench.speed.rounds import clock_of

    spec, shape = ModelSpec(**request["spec"]), ShapeSpec(**request["shape"])
    opened = open_model(spec, threads=request["threads"], device=request["device"], shape=shape)
    opened.begin()
    sample = opened.input.noise(1, 0)
    answer_s = clock_of(opened.device)(lambda: opened.answer(sample))
    return {"answer_s": answer_s, "peak_bytes": peak_bytes(), "peak_gpu_bytes": peak_gpu_bytes()}


def peak_bytes() -> int:
    """The most memory that this process has held. ru_maxrss is not reset when a process is started, so Linux's own mark comes first."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_gpu_bytes() -> int | None:
    """The most memory of tensors on the GPU; None without CUDA in use."""
    cuda = sys.modules["torch"].cuda if "torch" in sys.modules else None
    return int(cuda.max_memory_allocated()) if cuda is not None and cuda.is_initialized() else None


if __name__ == "__main__":
    sys.exit(main())
