"""Frames with the boxes of what is in them, and a data set of such frames."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.data.manifest import Subset

ANY_CLASS = -1
"""Label of an ignored region that hides objects of every class."""
FrameKey: TypeAlias = tuple[str, int | None]
"""Path from the data root, and the index of the frame in it; None for a single image."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledFrame:
    """One annotated frame. A frame without a box is empty; frames without annotation are in no data set.

    path: from the data root, with forward slashes: an image (frame_index None), or a video or folder of images, in which frame_index counts
    decoded frames from 0. time_s: seconds from the first frame, None where unknown. width, height: pixels of the frame as decoded.
    boxes: (N, 4) float32, x1 y1 x2 y2 in pixels, edges of the whole frame 0, 0, width, height; parts outside the frame are kept.
    labels: (N,) int64 indices of the data set's classes, or ANY_CLASS where `ignore`. ignore: (N,) bool, regions where a detection is
    neither right nor wrong (crowds, "difficult", flag 0 of MOT). track_ids: (N,) int64, the same number for the same object along a video.
    complete: whether every object of the classes has its box; False where others may be there without one (DAVIS).
    group: must be on one side of a split only (a video, a scene). subset: "train", "val", "test", or "" where the source has none.
    """

    path: str
    width: int
    height: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    group: str
    frame_index: int | None = None
    time_s: float | None = None
    track_ids: NDArray[np.int64] | None = None
    complete: bool = True
    subset: Subset | str = ""

    @property
    def key(self) -> FrameKey:
        """What detections of this frame are filed under."""
        return self.path, self.frame_index

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, kw_only=True)
class BoxManifest:
    """All annotated frames of a data set, in the order of the source, and the names that their labels index."""

    name: str
    root: Path
    classes: tuple[str, ...]
    frames: tuple[LabelledFrame, ...]

    def select(self, subset: str) -> "BoxManifest":
        """Its frames of one side of the split. Raises DataError for an empty side."""
        frames = tuple(frame for frame in self.frames if frame.subset == subset)
        if not frames:
            found = ", ".join(sorted({frame.subset or "(no subset)" for frame in self.frames}))
            raise DataError(f"data set '{self.name}' has no frame in subset '{subset}'", found=found)
        return dataclasses.replace(self, frames=frames)

    def thinned(self, every: int) -> "BoxManifest":
        """Its single images, and those frames of videos whose index is a multiple of `every`."""
        return dataclasses.replace(self, frames=tuple(frame for frame in self.frames if (frame.frame_index or 0) % every == 0))

    def by_path(self) -> dict[str, list[LabelledFrame]]:
        """The frames of each file, in the order of their index."""
        found: dict[str, list[LabelledFrame]] = {}
        for frame in self.frames:
            found.setdefault(frame.path, []).append(frame)
        return {path: sorted(frames, key=lambda frame: frame.frame_index or 0) for path, frames in found.items()}
