"""What every reader returns and offers: facts about a video, and frames by index, by time and as a stream."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vidkd.base.errors import VideoError

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


TIME_SLACK_S = 1e-6
"""A time this little before a frame counts as that frame: 3 * 0.04 is not 0.12 in floating point."""


class VideoReader(ABC):
    """One open video. Use as a context manager, in the process that opened it: decoders do not survive a fork.

    An *index* counts frames in presentation order from 0; a *time* is seconds since the first frame. Neither is derived from the other
    by a frame rate. Frames are uint8 RGB, upright, and resized so that their short side is `short_side` if that was given.
    """

    def __init__(self, path: str, short_side: int | None) -> None:
        self.path = path
        self._short_side = short_side
        self._process = os.getpid()
        self._closed = False

    @property
    @abstractmethod
    def info(self) -> VideoInfo:
        """Facts about the video."""

    @property
    @abstractmethod
    def timestamps_s(self) -> Times:
        """Presentation time of every frame in seconds, float64 (N,), strictly rising from 0."""

    @abstractmethod
    def _images(self, indices: Sequence[int]) -> Iterator[Image]:
        """Upright full-size images of these valid, strictly rising indices."""

    def _images_from(self, start_index: int) -> Iterator[Image]:
        """Upright full-size images of all frames from `start_index` on."""
        return self._images(range(start_index, len(self)))

    def _release(self) -> None:  # noqa: B027 - images hold nothing open
        """Give back decoder and file."""

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.timestamps_s)

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the frames that this reader returns."""
        return resized_size(self.info.height, self.info.width, self._short_side)

    def frames_at_indices(self, indices: Sequence[int]) -> Image:
        """Frames (N, H, W, 3) at these indices, in the order given; repeats are allowed. Raises VideoError for an index out of range."""
        self._check_usable()
        wanted = [int(index) for index in indices]
        distinct = sorted(set(wanted))
        if not distinct:
            return np.empty((0, *self.output_size, 3), dtype=np.uint8)
        self._check_inside(distinct[0], len(self) - 1)
        self._check_inside(distinct[-1], len(self) - 1)
        images = dict(zip(distinct, (resized(image, self._short_side) for image in self._images(distinct)), strict=True))
        if len({image.shape for image in images.values()}) > 1:
            raise VideoError(
                f"the size of the frames changes in: {self.path}", hint="vidkd prepare_data check --normalise OUT writes a clean copy"
            )
        return np.stack([images[index] for index in wanted])

    def indices_at_times(self, times_s: Sequence[float] | Times) -> list[int]:
        """Index of the frame that is on the screen at each time. Raises VideoError for a time before 0 or not before the end."""
        times, end_s = np.asarray(times_s, dtype=np.float64).reshape(-1), self.info.duration_s
        outside = ~((times >= -TIME_SLACK_S) & (times < end_s))
        if outside.any():
            raise VideoError(f"no frame at {times[outside][0]} s in: {self.path}", times=f"0 s up to, not including, {end_s} s")
        return [int(index) for index in np.searchsorted(self.timestamps_s, times + TIME_SLACK_S, side="right") - 1]

    def frames_at_times(self, times_s: Sequence[float] | Times) -> Image:
        """Frames (N, H, W, 3) that are on the screen at these times, in the order given. Raises VideoError as `indices_at_times`."""
        return self.frames_at_indices(self.indices_at_times(times_s))

    def stream(self, start_index: int = 0) -> Iterator[Frame]:
        """Every frame from `start_index` on, in order, one in memory at a time. Raises VideoError at a frame that cannot be decoded."""
        self._check_usable()
        self._check_inside(start_index, len(self))
        return self._stream(start_index)

    def _stream(self, start_index: int) -> Iterator[Frame]:
        times_s = self.timestamps_s
        for index, image in enumerate(self._images_from(start_index) if start_index < len(times_s) else (), start=start_index):
            yield Frame(index=index, time_s=float(times_s[index]), image=resized(image, self._short_side))
            self._check_usable()

    def close(self) -> None:
        """Give back decoder and file; may be called twice. An idle decord reader holds hundreds of megabytes."""
        if not self._closed:
            self._closed = True
            self._release()

    def _check_inside(self, index: int, last: int) -> None:
        if not 0 <= index <= last:
            raise VideoError(f"no frame {index} in: {self.path}", frames=f"0 to {len(self) - 1}")

    def _check_usable(self) -> None:
        if self._closed:
            raise VideoError(f"the reader is closed: {self.path}")
        if os.getpid() != self._process:
            raise VideoError(f"opened in another process: {self.path}", hint="open the video in the process that reads it")

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def resized_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width after scaling the shorter of the two to `short_side`; the longer is rounded to whole pixels."""
    if short_side is None:
        return height, width
    scale = short_side / min(height, width)
    return max(short_side, round(height * scale)), max(short_side, round(width * scale))


def resized(image: Image, short_side: int | None) -> Image:
    """The image with that short side. Done here and not in the decoder, so that every backend gives the same pixels."""
    height, width = resized_size(image.shape[0], image.shape[1], short_side)
    if (height, width) == image.shape[:2]:
        return image
    shrinks = height < image.shape[0]
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), dtype=np.uint8)
