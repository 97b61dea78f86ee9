"""What is warned of in files in integers: that one mostly differs from its network, and that a processor spoils eight-bit weights."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from vidkd.base.processor import processor_flags, saturates
from vidkd.compress.config import QuantiseConfig

log = logging.getLogger(__name__)

LEAST_AGREEMENT = 0.5
"""Share of answers that a file has in common with its network; below, it mostly says something else."""
LEAST_SIGNAL_DB = 3.0
"""Signal to noise of what a file puts out; below, the noise has more than half the power of what the network says."""


class Nearness(Protocol):
    """How near a file is to the network that it was exported from."""

    @property
    def apart(self) -> str:
        """Why the file mostly differs from its network; empty where it does not."""
        ...

    def record(self) -> dict[str, Any]:
        """The figures, and under `said` what is printed of them, as JSON can hold them."""
        ...


def mostly_apart(answers: str, agreement: float | None, signal_db: float) -> str:
    """Why a file mostly differs from its network; empty where it does not. answers: what agrees, in words; agreement: None if unknown."""
    reasons = []
    if agreement is not None and agreement < LEAST_AGREEMENT:
        reasons.append(f"{answers} ({100 * agreement:.0f} %, less than {100 * LEAST_AGREEMENT:.0f})")
    if signal_db < LEAST_SIGNAL_DB:
        reasons.append(f"signal to noise of its outputs {signal_db:.1f} dB, below {LEAST_SIGNAL_DB:g}")
    return "; ".join(reasons)


def warn_if_apart(path: Path, nearness: Nearness) -> None:
    """Log that a file in integers mostly differs from its network, where it does."""
    if nearness.apart:
        log.warning(
            "%s mostly differs from its network: %s. More clips to find ranges on, layers spared from integers (the sensitivity of each "
            "tells which), or training that feels integers (train.integers) may mend it; judge it by vidkd evaluate before it is used",
            *(path, nearness.apart),
        )


def warn_if_saturating(config: QuantiseConfig, hint: str, flags: Collection[str] | None = None) -> None:
    """Log that weights of eight bits may overflow on this processor, where they may. flags: of the processor, by default of this one."""
    if config.weight_bits == 8 and saturates(processor_flags() if flags is None else flags):
        log.warning("this processor has no VNNI: its eight-bit products may saturate (%s for files that run here)", hint)
