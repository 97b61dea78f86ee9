"""What a detector finds in one frame."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections:
    """The boxes of one frame, in any order.

    boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the frame as decoded, x to the right and y down; the edges of a whole frame are 0, 0,
    width, height. scores: (N,) float32 in [0, 1]. labels: (N,) int64, indices into the detector's class names.
    frame_index counts decoded frames from 0; time_s is the frame's own timestamp, None where it has none.
    track_ids: (N,) int64, the same number for the same object along a video; None where nothing was tracked.
    Raises ValueError where the lengths or widths differ.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    frame_index: int = 0
    time_s: float | None = None
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float32).reshape(-1, 4))
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float32).reshape(-1))
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64).reshape(-1))
        if self.track_ids is not None:
            object.__setattr__(self, "track_ids", np.asarray(self.track_ids, np.int64).reshape(-1))
        lengths = {len(part) for part in (self.boxes, self.scores, self.labels, self.track_ids) if part is not None}
        if len(lengths) != 1:
            raise ValueError(f"boxes, scores, labels and track_ids differ in number: {sorted(lengths)}")

    @classmethod
    def none(cls, *, frame_index: int = 0, time_s: float | None = None) -> "Detections":
        """A frame in which nothing was found."""
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int64),
            frame_index=frame_index,
            time_s=time_s,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> "Detections":
        """Those of a mask (N,), or of indices in the order given."""
        ids = None if self.track_ids is None else self.track_ids[which]
        return dataclasses.replace(self, boxes=self.boxes[which], scores=self.scores[which], labels=self.labels[which], track_ids=ids)

    def at(self, frame_index: int, time_s: float | None) -> "Detections":
        """The same boxes as those of this frame."""
        return dataclasses.replace(self, frame_index=frame_index, time_s=time_s)

    def clipped(self, width: int, height: int) -> "Detections":
        """The boxes cut at the edges of a frame of this size."""
        edges = np.asarray([width, height, width, height], np.float32)
        return dataclasses.replace(self, boxes=self.boxes.clip(0, edges))
