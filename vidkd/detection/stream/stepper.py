"""What the stream asks, frame after frame: a detector that may learn on its way, filters and trackers around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vidkd.runtime.detections import Detections
from vidkd.runtime.detector import Detector, StagedDetector
from vidkd.video import Frame


@dataclass(frozen=True, kw_only=True)
class Step:
    """What came of one frame. extra: further keys of its JSON line, of values that JSON can hold."""

    detections: Detections
    extra: Mapping[str, Any] = field(default_factory=dict)


class Stepper(Protocol):
    """Called with the frames of a stream in order, from one thread; one that is `staged` from two.

    `state` is asked for after the last frame of each part; `restore` gets it back in a new process, before the frame that follows. The
    steps after that must be those that would have followed without an interruption.
    """

    @property
    def staged(self) -> bool:
        """Whether what frames are asked first depends on no frame before: `begin` may then be called for frames whose predecessors are
        not ended yet, in a thread of its own, and `step` is `end(begin(frames))`.
        """
        return False

    def begin(self, frames: Sequence[Frame]) -> Any:
        """The first half of a step. What it gives holds no frame's picture."""
        return self.step(frames)

    def end(self, frames: Sequence[Frame], begun: Any) -> list[Step]:  # noqa: ARG002 - for those that are staged
        """The second half, with the same frames."""
        steps: list[Step] = begun
        return steps

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """One result a frame, in order, with the frame's index and time. Frames of one call have one size."""
        ...

    def state(self) -> bytes:
        """All that the frames so far have left behind; empty if nothing."""
        ...

    def restore(self, state: bytes) -> None:
        """Become what `state` was taken of."""
        ...


class Around(Stepper):
    """A stepper around another one, whose steps it changes: staged where that is, as it does so in the second half."""

    def __init__(self, inner: Stepper) -> None:
        self._inner = inner

    @property
    def staged(self) -> bool:
        """See Stepper."""
        return self._inner.staged

    def begin(self, frames: Sequence[Frame]) -> Any:
        """See Stepper."""
        return self._inner.begin(frames)

    def end(self, frames: Sequence[Frame], begun: Any) -> list[Step]:
        """See Stepper."""
        return self.changed(self._inner.end(frames, begun), frames)

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """See Stepper."""
        return self.changed(self._inner.step(frames), frames)

    def changed(self, steps: Sequence[Step], frames: Sequence[Frame]) -> list[Step]:
        """What becomes of the steps of these frames, which come in order."""
        raise NotImplementedError

    def state(self) -> bytes:
        """See Stepper."""
        return self._inner.state()

    def restore(self, state: bytes) -> None:
        """See Stepper."""
        self._inner.restore(state)


class DetectorStepper(Stepper):
    """A detector that no frame changes: the `Stepper` without a state, staged where the detector is."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    @property
    def staged(self) -> bool:
        """See Stepper."""
        return isinstance(self._detector, StagedDetector)

    def begin(self, frames: Sequence[Frame]) -> Any:
        """See Stepper."""
        assert isinstance(self._detector, StagedDetector)
        return self._detector.begin(np.stack([frame.image for frame in frames]))

    def end(self, frames: Sequence[Frame], begun: Any) -> list[Step]:
        """See Stepper."""
        assert isinstance(self._detector, StagedDetector)
        return _steps(self._detector.end(begun), frames)

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """See Stepper: the frames are given to the detector together."""
        return _steps(self._detector(np.stack([frame.image for frame in frames])), frames)

    def state(self) -> bytes:
        """See Stepper."""
        return b""

    def restore(self, state: bytes) -> None:
        """See Stepper."""


def _steps(found: Sequence[Detections], frames: Sequence[Frame]) -> list[Step]:
    return [Step(detections=one.at(frame.index, frame.time_s)) for one, frame in zip(found, frames, strict=True)]
