"""What every detector is to the rest of vidkd, whatever runs it."""

from collections.abc import Sequence
from typing import Protocol

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
