"""The processors: how many this process may use, the threads that are asked for on them, and what they can do."""

import os
from collections.abc import Collection, MutableMapping
from pathlib import Path

from vidkd.base.errors import ConfigError

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says how threads of OpenMP wait."""
CPUINFO = Path("/proc/cpuinfo")
VECTORS_OF_X86 = "sse4_1", "avx2", "avx512f"
"""Vector instructions of x86 by which libraries multiply eight-bit integers where there are none made for it (VNNI)."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have threads of OpenMP, which torch uses, sleep while they wait for each other, unless the user has chosen by a variable of WAITING.

    It is read when the library is loaded, so this has to come before torch is imported. By themselves they spin, and where there are more
    busy threads than cores, be they of loader processes, a decoder or other programs, they take the core from whom they wait for.
    `python benchmarks/run.py --parts waiting` measures it.
    """
    if not any(environment.get(name) for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def at_most_cores(threads: int) -> int:
    """So many threads, or as many as this process has cores if these are fewer: for a number that another machine was asked for."""
    return min(threads, available_cores())


def check_threads(*threads: int, where: str) -> None:
    """Raise ConfigError for a negative number of threads, and for more of them than this process has cores: they would wait for each other.

    threads: 0 leaves the choice to what runs the model. where: the flag or key that asked for them.
    """
    cores, most = available_cores(), max(threads, default=0)
    if min(threads, default=0) < 0:
        raise ConfigError(f"{where} must not be negative: {min(threads)}", hint="leave it out, and what runs the model chooses")
    if most > cores:
        raise ConfigError(f"{most} threads on {cores} core{'s' * (cores > 1)}", where=where, hint=f"at most {cores}")


def processor_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The flags of the processor; none where the system does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, rest = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(rest.split())
    return frozenset()


def saturates(flags: Collection[str]) -> bool:
    """Whether products of unsigned activations and signed weights in eight bits may overflow: on x86 without VNNI.

    There two neighbouring products are added in sixteen bits (VPMADDUBSW), which 2 x 255 x 127 overflows and 2 x 255 x 63 does not: weights
    of seven bits are exact. Other processors, and those of unknown flags, are taken to be exact.
    """
    return any(flag in flags for flag in VECTORS_OF_X86) and not any("vnni" in flag for flag in flags)
