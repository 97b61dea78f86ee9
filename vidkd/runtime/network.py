"""A model's file, ready to run: arrays in, arrays out, whatever runs it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, ConfigError, first_line


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output as the file declares it. shape: None for a side that is left open. dtype: of the array that goes in or comes out.

    quantisation: (scale, zero point) of an integer input that means scale * (integer - zero point); None where values are plain.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    quantisation: tuple[float, int] | None = None

    def fits(self, *wanted: int) -> bool:
        """Whether its sides behind the batch are these, or left open."""
        return len(self.shape) == 1 + len(wanted) and all(side in (None, want) for side, want in zip(self.shape[1:], wanted, strict=True))


class Network(ABC):
    """An opened file; made by `open_onnx`, `open_openvino` and `open_tflite`. For one thread at a time.

    device: where it really runs, cpu or cuda. embedded: the metadata that the file carries as JSON text; None where it carries none.
    """

    device = "cpu"
    # How lines of the library's errors begin that say nothing of the file.
    noise: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path, inputs: list[Port], outputs: list[Port], embedded: str | None) -> None:
        if not inputs:  # an empty file, which is a whole message of ONNX
            raise CheckpointError(f"model has no input: {path}")
        self.path, self.inputs, self.outputs, self.embedded = str(path), inputs, outputs, embedded

    @abstractmethod
    def _run(self, given: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Sequence[NDArray[Any]]:
        """The named outputs, as the library gives them: copies where it writes into the same memory again."""

    def run(
        self, batch: NDArray[Any], outputs: Sequence[str], further: Mapping[str, NDArray[Any]] | None = None
    ) -> list[NDArray[np.floating]]:
        """The named outputs (B, ...) for a batch in the input's own type and layout, in the order of the names, as floating point.

        further: what the inputs after the first get, by name. Raises CheckpointError if the run fails.
        """
        try:
            arrays = self._run({self.inputs[0].name: batch, **(further or {})}, outputs)
        except Exception as error:  # the libraries' errors share no class
            reason = first_line(error, leave_out=self.noise)
            raise CheckpointError(f"model fails on an input of shape {batch.shape}: {self.path}", reason=reason) from error
        return [array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64) for array in arrays]


def check_processor(device: str, library: str) -> None:
    """Raise ConfigError for another device than the processor, where a library runs on that alone."""
    if device not in ("auto", "cpu"):
        reason = f"vidkd runs {library} on the processor"
        raise ConfigError(f"cannot use device '{device}' in {library}", reason=reason, hint="--device auto or cpu")


def misfit(network: Network, reason: object) -> ConfigError:
    """The error for a file that is not as its metadata say."""
    return ConfigError(f"model and metadata do not fit: {network.path}", reason=reason)
