"""The numbers of tracks beside the boxes of a stepper; a track goes on where a run was interrupted."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidkd.detection.stream.byte_track import ByteTracker
from vidkd.detection.stream.stepper import Step, Stepper
from vidkd.video import Frame

INNER = "inner"


class Tracked(Stepper):
    """A `Stepper` whose boxes get track numbers. No box is left out: those without a track have -1."""

    def __init__(self, inner: Stepper, tracker: ByteTracker) -> None:
        self._inner, self._tracker = inner, tracker

    @property
    def staged(self) -> bool:
        """See Stepper: tracks go on from frame to frame in the second half alone."""
        return self._inner.staged

    def begin(self, frames: Sequence[Frame]) -> Any:
        """See Stepper."""
        return self._inner.begin(frames)

    def end(self, frames: Sequence[Frame], begun: Any) -> list[Step]:
        """See Stepper."""
        return self._tracked(self._inner.end(frames, begun))

    def step(self, frames: Sequence[Frame]) -> list[Step]:
        """See Stepper."""
        return self._tracked(self._inner.step(frames))

    def _tracked(self, steps: Sequence[Step]) -> list[Step]:
        return [
            dataclasses.replace(step, detections=dataclasses.replace(step.detections, track_ids=self._tracker.update(step.detections)))
            for step in steps
        ]

    def state(self) -> bytes:
        """See Stepper: the tracks, and the state of the stepper inside."""
        file = io.BytesIO()
        arrays: dict[str, Any] = {**self._tracker.state(), INNER: np.frombuffer(self._inner.state(), np.uint8)}
        np.savez(file, **arrays)
        return file.getvalue()

    def restore(self, state: bytes) -> None:
        """See Stepper."""
        with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
            self._tracker.restore(arrays)
            self._inner.restore(arrays[INNER].tobytes())
