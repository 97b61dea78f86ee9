"""What the processor can do, as the system tells it."""

from collections.abc import Collection
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
VECTORS_OF_X86 = "sse4_1", "avx2", "avx512f"
"""Vector instructions of x86 by which libraries multiply eight-bit integers where there are none made for it (VNNI)."""


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
