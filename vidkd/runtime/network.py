"""A model's file, ready to run: arrays in, arrays out, whatever runs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output as the file declares it. shape: None for a side that is left open. dtype: of the array that goes in or comes out.

    quantisation: (scale, zero point) of an integer input that stands for scale * (integer - zero point); None where values are plain.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    quantisation: tuple[float, int] | None = None


class Network(Protocol):
    """What an opened file offers; made by `open_onnx`, `open_openvino` and `open_tflite`. For one thread at a time."""

    @property
    def path(self) -> str:
        """The file, for messages."""
        ...

    @property
    def device(self) -> str:
        """Where it really runs: cpu or cuda."""
        ...

    @property
    def inputs(self) -> Sequence[Port]:
        """The inputs that the file declares."""
        ...

    @property
    def outputs(self) -> Sequence[Port]:
        """The outputs that the file declares, in its order."""
        ...

    @property
    def embedded(self) -> str | None:
        """The metadata that the file carries as JSON text; None where it carries none."""
        ...

    def run(self, batch: NDArray[Any], outputs: Sequence[str]) -> list[NDArray[np.floating]]:
        """The named outputs (B, ...) for a batch in the input's own type and layout, in the order of the names, as floating point.

        Raises CheckpointError if the run fails.
        """
        ...


class ClipNetwork(Network, Protocol):
    """A `Network` that may have more than one input."""

    def run(
        self, batch: NDArray[Any], outputs: Sequence[str], further: Mapping[str, NDArray[Any]] | None = None
    ) -> list[NDArray[np.floating]]:
        """As `Network.run`; further: what the inputs after the first get, by name."""
        ...
