"""The most memory that this process has held."""

import resource
import sys
from pathlib import Path

from vidkd.base.memory import STATUS, peak_resident_bytes


def peak_bytes(status: Path = STATUS) -> int:
    """Of the host: the high-water mark of what lay in memory, since the process began."""
    if (told := peak_resident_bytes(status)) is not None:
        return told
    # where there is no /proc: kilobytes, on macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_gpu_bytes() -> int | None:
    """Of tensors on the GPU, by torch's own account; None in a process without torch or without CUDA in use."""
    cuda = sys.modules["torch"].cuda if "torch" in sys.modules else None
    return int(cuda.max_memory_allocated()) if cuda is not None and cuda.is_initialized() else None
