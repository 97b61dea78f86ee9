"""What readers return: facts about a video, frames, and how the stored picture is turned before it is shown."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""uint8 RGB, (H, W, 3); a batch of frames is (N, H, W, 3)."""

Times = npt.NDArray[np.float64]
"""Presentation times in seconds from the first frame, strictly increasing, (N,)."""

MAX_PIXELS = 8192 * 4320
"""Largest frame that is opened: a broken header can declare a picture that fills the memory."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Facts about one video.

    backend: decord, pyav or images. width, height: pixels of the upright picture (display rotation applied), before `short_side`.
    average_fps: frames divided by duration; never use it to turn an index into a time, `timestamps_s` of the reader does that.
    duration_s: time of the last frame plus its own length, counted from the first frame.
    damage: why the frames end before the file says they do; None if nothing of the kind was seen. Only decoding everything
        (`check_video`) can promise that there is none.
    """

    path: str
    backend: str
    codec: str
    width: int
    height: int
    frame_count: int
    average_fps: float
    duration_s: float
    damage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame: index in presentation order, time_s since the first frame, image uint8 RGB (H, W, 3)."""

    index: int
    time_s: float
    image: Image


@dataclass(frozen=True)
class Orientation:
    """A quarter turn, or a mirror image of one: transpose first, then flip columns, then flip rows."""

    transposed: bool = False
    flip_columns: bool = False
    flip_rows: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether the picture is a mirror image and not just turned."""
        return (self.transposed + self.flip_columns + self.flip_rows) % 2 == 1

    def apply(self, image: Image) -> Image:
        """The upright picture of a stored one (H, W, 3)."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1])


UPRIGHT = Orientation()


def orientation_of(frame: Any) -> Orientation:
    """The orientation that a decoded PyAV frame asks for; anything but quarter turns is shown as stored, as players do."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if side_data is None else orientation_of_matrix(np.frombuffer(bytes(side_data), np.int32))


def orientation_of_matrix(matrix: "npt.NDArray[np.int32]") -> Orientation:
    """From the nine numbers of a display matrix (ISO 14496-12: x' = a x + c y, y' = b x + d y, 16.16 fixed point)."""
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    if a and d and not (b or c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0) if b and c and not (a or d) else UPRIGHT
