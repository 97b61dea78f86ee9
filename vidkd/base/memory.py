"""Memory of this process and of the machine, where the system tells it."""

from pathlib import Path

STATUS, MACHINE = Path("/proc/self/status"), Path("/proc/meminfo")


def resident_bytes(status: Path = STATUS) -> int | None:
    """What this process holds in memory; None where the system does not tell."""
    return _kilobytes(status, "VmRSS")


def peak_resident_bytes(status: Path = STATUS) -> int | None:
    """The most that it has held since it began; None where the system does not tell."""
    return _kilobytes(status, "VmHWM")


def available_bytes(machine: Path = MACHINE) -> int | None:
    """What may still be had without swapping; None where the system does not tell. A limit of a container is not known here."""
    return _kilobytes(machine, "MemAvailable")


def _kilobytes(path: Path, wanted: str) -> int | None:
    """The entry of a file of the kernel, in bytes."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == wanted:
            return int(rest.split()[0]) * 1024
    return None
