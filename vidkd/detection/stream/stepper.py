"""What the stream asks, frame after frame: a detector that may learn on its way, filters and trackers around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vidkd.runtime.detections import Detections
from vidkd.runtime.detector import Detector
from vidkd.video import Frame


@dataclass(frozen=True, kw_only=True)
class Step:
    """What came of one frame. extra: further keys of its JSON line, of values that JSON can hold."""

    detections: Detections
    extra: Mapping[str, Any] = field(default_factory=dict)


class Stepper(Protocol):
    """Called from one thread, with the frames of a stream in order.

    `state` is asked for after the last frame of each part; `restore` gets it back in a new process, before the frame that follows. The
    steps after that must be those that would have followed without an interruption.
    """

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """One result a frame, in order, with the frame's index and time. Frames of one call have one size."""
        ...

    def state(self) -> bytes:
        """All that the frames so far have left behind; empty if nothing."""
        ...

    def restore(self, state: bytes) -> None:
        """Become what `state` was taken of."""
        ...


class DetectorStepper:
    """A detector that no frame changes: the `Stepper` without a state."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """See Stepper: the frames are given to the detector together."""
        found = self._detector(np.stack([frame.image for frame in frames]))
        return [Step(detections=one.at(frame.index, frame.time_s)) for one, frame in zip(found, frames, strict=True)]

    def state(self) -> bytes:
        """See Stepper."""
        return b""

    def restore(self, state: bytes) -> None:
        """See Stepper."""
