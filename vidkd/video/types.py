"""What a reader hands out: facts about a video, and single frames."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""uint8 RGB, (H, W, 3); a batch of frames is (N, H, W, 3)."""

MAX_PIXELS = 8192 * 4320
"""Largest frame that is opened without being asked for: a broken header can declare a picture that fills the memory."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Facts about one video.

    width, height: pixels of the upright picture (display rotation applied), before `short_side`.
    average_fps: frames divided by duration; never use it to turn an index into a time, `timestamps_s` of the reader does that.
    duration_s: time of the last frame plus its own length, counted from the first frame.
    rotation_deg: clockwise turn that the reader applies to the stored picture: 0, 90, 180 or 270.
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
    rotation_deg: int
    damage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame: index in presentation order, time_s since the first frame, image uint8 RGB (H, W, 3)."""

    index: int
    time_s: float
    image: Image
