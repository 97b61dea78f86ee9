"""What is done with the frames of a stream: a detector that may learn on the way, and filters around it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.runtime.detections import Detections
from vidkd.runtime.detector import Detector, StagedDetector
from vidkd.video import Frame
from vidkd.video.reader import Image


@dataclass(frozen=True, kw_only=True)
class Step:
    """What came of one frame. extra: further keys of its JSON line, of values that JSON can hold."""

    detections: Detections
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One frame after its step. size: (width, height) of the frame. picture: as drawn, None where nothing is."""

    step: Step
    size: tuple[int, int]
    picture: Image | None


class Stepper:
    """Called with the frames of a stream in order, batch by batch: `end(frames, begin(frames))`. Frames of one call have one size.

    staged: whether `begin` depends on no earlier frame; it may then run in a thread of its own, ahead of `end`.
    """

    staged = False

    def begin(self, frames: Sequence[Frame]) -> Any:  # noqa: ARG002 - for those that are staged
        """The first half of a step. The result holds no frame's picture."""
        return None

    def end(self, frames: Sequence[Frame], begun: Any) -> list[Step]:
        """The second half, with the same frames: one result per frame, in order, with the frame's index and time."""
        raise NotImplementedError

    def state(self) -> bytes:
        """All that later frames depend on, after the last frame of a part."""
        return b""

    def restore(self, state: bytes) -> None:
        """Continue from `state` in a new process: the following steps are those of an uninterrupted run."""


class Around(Stepper):
    """A stepper that changes the steps of another one."""

    def __init__(self, inner: Stepper) -> None:
        self._inner, self.staged = inner, inner.staged

    def begin(self, frames: Sequence[Frame]) -> Any:
        """See Stepper."""
        return self._inner.begin(frames)

    def end(self, frames: Sequence[Frame], begun: Any) -> list[Step]:
        """See Stepper."""
        height, width = frames[0].image.shape[:2]
        steps = self._inner.end(frames, begun)
        return [dataclasses.replace(step, detections=self.changed(step.detections, width, height)) for step in steps]

    def changed(self, found: Detections, width: int, height: int) -> Detections:
        """The boxes of the next frame, of this size, after the change."""
        raise NotImplementedError

    def state(self) -> bytes:
        """See Stepper."""
        return self._inner.state()

    def restore(self, state: bytes) -> None:
        """See Stepper."""
        self._inner.restore(state)


class DetectorStepper(Stepper):
    """A detector that no frame changes: a `Stepper` without a state, staged if the detector is."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self.staged = detector, isinstance(detector, StagedDetector)

    def begin(self, frames: Sequence[Frame]) -> Any:
        """See Stepper."""
        images = np.stack([frame.image for frame in frames])
        return self._detector.begin(images) if isinstance(self._detector, StagedDetector) else self._detector(images)

    def end(self, frames: Sequence[Frame], begun: Any) -> list[Step]:
        """See Stepper."""
        found = self._detector.end(begun) if isinstance(self._detector, StagedDetector) else begun
        return [Step(detections=one.at(frame.index, frame.time_s)) for one, frame in zip(found, frames, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle of the frame: x1 y1 x2 y2 in pixels, or as parts of its width and height if all four are at most 1. text: as given."""

    text: str
    corners: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "Region":
        """From `x1,y1,x2,y2`. Raises ConfigError."""
        try:
            x1, y1, x2, y2 = corners = tuple(map(float, text.split(",")))
            fits = all(math.isfinite(number) and number >= 0 for number in corners) and x1 < x2 and y1 < y2
        except ValueError:
            fits = False
        if not fits:
            mend = "x1,y1,x2,y2 with x1 < x2 and y1 < y2, none negative: pixels, or parts of the frame from 0 to 1"
            raise ConfigError(f"not a region: {text}", hint=mend)
        return cls(text=text, corners=corners)

    def pixels(self, width: int, height: int) -> NDArray[np.float64]:
        """x1 y1 x2 y2 in pixels of a frame of this size. Raises ConfigError if it lies outside."""
        corners = np.asarray(self.corners) * ([width, height, width, height] if max(self.corners) <= 1 else 1)
        if corners[0] >= width or corners[1] >= height:
            raise ConfigError(f"the region {self.text} lies outside the frame", frame=f"{width} x {height}")
        return np.asarray(corners)


class Filtered(Around):
    """A `Stepper` of which only some boxes are kept: of these labels, None for all, with their centres in a region, None for anywhere.

    Raises ConfigError if the region lies outside a frame.
    """

    def __init__(self, inner: Stepper, labels: frozenset[int] | None = None, region: Region | None = None) -> None:
        super().__init__(inner)
        self._labels, self._region = labels, region

    def changed(self, found: Detections, width: int, height: int) -> Detections:
        """See Around."""
        kept = np.ones(len(found), bool)
        if self._labels is not None:
            kept &= np.isin(found.labels, sorted(self._labels))
        if self._region is not None:
            x1, y1, x2, y2 = self._region.pixels(width, height)
            x, y = ((found.boxes[:, :2] + found.boxes[:, 2:]) / 2).T
            kept &= (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
        return found.select(kept)


def labels_of(names: Sequence[str], class_names: Sequence[str]) -> frozenset[int]:
    """The labels of classes by name. Raises ConfigError for a name that the model does not have, with the nearest that it has."""
    for name in names:
        if name not in class_names:
            raise unknown_name("class", name, class_names)
    return frozenset(label for label, name in enumerate(class_names) if name in names)
