"""What is done with the frames of a stream: a detector that may learn on the way, and filters around it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, unknown_name
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


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle of the frame: pixels, or parts of its width and height if all four numbers are at most 1.

    Raises ConfigError for numbers that are negative or not finite, or an empty rectangle.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        numbers = dataclasses.astuple(self)
        if not all(math.isfinite(number) and number >= 0 for number in numbers) or self.x1 >= self.x2 or self.y1 >= self.y2:
            raise ConfigError(
                f"not a region: {self}",
                hint="x1,y1,x2,y2 with x1 < x2 and y1 < y2, none negative: pixels, or parts of the frame from 0 to 1",
            )

    def __str__(self) -> str:
        return ",".join(f"{number:g}" for number in dataclasses.astuple(self))

    @classmethod
    def parse(cls, text: str) -> "Region":
        """From `x1,y1,x2,y2`. Raises ConfigError."""
        try:
            x1, y1, x2, y2 = map(float, text.split(","))
        except ValueError:
            raise ConfigError(f"not a region: {text}", hint="four numbers: x1,y1,x2,y2") from None
        return cls(x1=x1, y1=y1, x2=x2, y2=y2)

    def pixels(self, width: int, height: int) -> NDArray[np.float64]:
        """x1 y1 x2 y2 in pixels of a frame of this size. Raises ConfigError if it lies outside."""
        parts = max(dataclasses.astuple(self)) <= 1
        corners = np.asarray(dataclasses.astuple(self), np.float64) * ([width, height, width, height] if parts else 1)
        if corners[0] >= width or corners[1] >= height:
            raise ConfigError(f"the region {self} lies outside the frame", frame=f"{width} x {height}")
        return corners


@dataclass(frozen=True, kw_only=True)
class BoxFilter:
    """labels: those kept, None for all. region: where the centres of the boxes must lie, None for anywhere."""

    labels: frozenset[int] | None = None
    region: Region | None = None

    def __call__(self, detections: Detections, *, width: int, height: int) -> Detections:
        """The boxes that are kept, of a frame of this size. Raises ConfigError if the region lies outside it."""
        kept = np.ones(len(detections), bool)
        if self.labels is not None:
            kept &= np.isin(detections.labels, sorted(self.labels))
        if self.region is not None:
            x1, y1, x2, y2 = self.region.pixels(width, height)
            x, y = ((detections.boxes[:, :2] + detections.boxes[:, 2:]) / 2).T
            kept &= (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
        return detections.select(kept)


class Filtered(Around):
    """A `Stepper` of which only the boxes that pass a filter are seen."""

    def __init__(self, inner: Stepper, keep: BoxFilter) -> None:
        super().__init__(inner)
        self._keep = keep

    def changed(self, steps: Sequence[Step], frames: Sequence[Frame]) -> list[Step]:
        """See Around. Raises ConfigError if the filter's region lies outside the frame."""
        height, width = frames[0].image.shape[:2]
        return [dataclasses.replace(step, detections=self._keep(step.detections, width=width, height=height)) for step in steps]


def labels_of(names: Sequence[str], class_names: Sequence[str]) -> frozenset[int]:
    """The labels of classes by name. Raises ConfigError for a name that the model does not have, with the nearest that it has."""
    for name in names:
        if name not in class_names:
            raise unknown_name("class", name, class_names)
    return frozenset(label for label, name in enumerate(class_names) if name in names)
