"""What the C library does with memory that a step frees."""

import ctypes
import os
import platform
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEEP_BYTES = 1 << 30
OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Have glibc keep what is freed for the next allocation, up to `KEEP_BYTES` at the top of the heap; whether it was told so.

    By itself it maps large tensors anew for every step and gives them back after it, and the system clears every page again: on two cores
    that took a fifth of a step of a small 3-D network. The process stays as large as its largest step, which it is anyway at that step.
    Nothing is done where the C library is another one, and where the user has chosen by one of the variables of `OWN_SETTINGS`.
    """
    if platform.libc_ver()[0] != "glibc" or any(environment.get(name) for name in OWN_SETTINGS):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, KEEP_BYTES) == 1 for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
