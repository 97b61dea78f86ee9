"""The numbers of tracks beside the boxes of a stepper; a track goes on where a run was interrupted."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidkd.detection.stream.byte_track import ByteTracker
from vidkd.detection.stream.stepper import Around, Step, Stepper
from vidkd.video import Frame

INNER = "inner"


class Tracked(Around):
    """A `Stepper` whose boxes get track numbers. No box is left out: those without a track have -1."""

    def __init__(self, inner: Stepper, tracker: ByteTracker) -> None:
        super().__init__(inner)
        self._tracker = tracker

    def changed(self, steps: Sequence[Step], frames: Sequence[Frame]) -> list[Step]:  # noqa: ARG002 - tracks go by the boxes alone
        """See Around."""
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
