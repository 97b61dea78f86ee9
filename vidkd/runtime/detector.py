"""What every detector is to the rest of vidkd, whatever runs it."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vidkd.runtime.detections import Detections


class Detector(Protocol):
    """Frames in, boxes in pixels of those frames out; resizing, padding, normalisation and their inverse are the detector's own."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes that labels index."""
        ...

    def __call__(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """RGB uint8 (B, H, W, 3) -> B results, frame_index 0 and time_s None, each sorted by falling score."""
        ...


@runtime_checkable
class StagedDetector(Detector, Protocol):
    """A detector in two halves, so that a network has the next frames while boxes are made of those before: `end(begin(frames))` is a call.

    The halves may be called from two threads, `end` in the order of `begin`. What lies between them holds no frame.
    """

    def begin(self, frames: NDArray[np.uint8]) -> Any:
        """Frames as `__call__` takes them -> the network's outputs; on a GPU they may not be worked out yet."""
        ...

    def end(self, begun: Any) -> list[Detections]:
        """What `begin` gave -> what `__call__` gives."""
        ...
