"""The processors that this process may use, and the threads that are asked for on them."""

import os

from vidkd.base.errors import ConfigError


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(*threads: int, where: str) -> None:
    """Raise ConfigError for a negative number of threads, and for more of them than this process has cores: they would wait for each other.

    threads: 0 leaves the choice to what runs the model. where: the flag or key that asked for them.
    """
    cores, most = available_cores(), max(threads, default=0)
    if min(threads, default=0) < 0:
        raise ConfigError(f"{where} must not be negative: {min(threads)}", to_mend="leave it out, and what runs the model chooses")
    if most > cores:
        raise ConfigError(f"{most} threads on {cores} core{'s' * (cores > 1)}", where=where, to_mend=f"at most {cores}")
