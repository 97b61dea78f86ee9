"""Processes that tests start: none outlives the time it is given, and what it started ends with it."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TIMEOUT_S = 300.0


@contextlib.contextmanager
def started(command: Sequence[str | Path], *, timeout_s: float = TIMEOUT_S, **further: Any) -> Iterator[subprocess.Popen[str]]:
    """A process with text in its pipes, in a session of its own; the end of the block waits for it.

    It and all that it started are killed after `timeout_s`, with TimeoutExpired at the end of the block, and where the block raises.
    further: as of subprocess.Popen.
    """
    late = threading.Event()
    with subprocess.Popen(command, **{"text": True, "start_new_session": True, **further}) as process:

        def end_late() -> None:
            late.set()
            _kill_with_children(process)

        timer = threading.Timer(timeout_s, end_late)
        timer.start()
        try:
            yield process
            process.wait()
        except BaseException:
            _kill_with_children(process)
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise subprocess.TimeoutExpired(command, timeout_s)


def run_to_end(
    command: Sequence[str | Path], *, timeout_s: float = TIMEOUT_S, check: bool = False, **further: Any
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run with captured text, and as `started`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(command, timeout_s=timeout_s, **{**pipes, **further}) as process:
        output, errors = process.communicate(timeout=timeout_s + 10)
    done = subprocess.CompletedProcess(command, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done


def _kill_with_children(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to the session of a process whose end nobody has seen yet, so that its number is not another's."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
