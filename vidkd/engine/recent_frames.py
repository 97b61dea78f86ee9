"""The frames of a running video that a window can still reach, at working size, and the views that windows cut out of them."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import VideoError
from vidkd.data.flow import dis_flow, resize_flow
from vidkd.data.footage import Footage, FootageConfig, shrink
from vidkd.data.transforms import resize_frames, working_size
from vidkd.data.windows import Window
from vidkd.video import Frame


@dataclass
class _Kept:
    """A frame at working size; for flow also at the size at which flow is computed, and the flow to `target` once a window asked for it."""

    index: int
    time_s: float
    working: NDArray[np.uint8]
    picture: NDArray[np.uint8] | None
    flow: NDArray[np.float16] | None = None
    target: int = -1


class RecentFrames:
    """A ring of frames: `push` each as it comes, `forget` what no window reaches any more.

    Frames and flow of a window are, bit for bit, what `footage_of` reads of the same frames of a file. A pair's flow is computed once.
    most: the most frames that were ever held.
    """

    def __init__(self, config: FootageConfig, *, want_flow: bool) -> None:
        self._config, self._want_flow = config, want_flow
        self._kept: deque[_Kept] = deque()
        self._shape: tuple[int, ...] | None = None
        self.most = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def timestamps_s(self) -> NDArray[np.float64]:
        """Times of the frames that are held, float64 (N,)."""
        return np.array([kept.time_s for kept in self._kept], np.float64)

    def indices(self, places: Sequence[int] | NDArray[np.int64]) -> list[int]:
        """The indices in the video of frames by their place in the ring."""
        return [self._kept[place].index for place in places]

    def push(self, frame: Frame) -> None:
        """Take the next frame. Raises VideoError if its size is not that of the frames before."""
        self._shape = self._shape or frame.image.shape
        if frame.image.shape != self._shape:
            size, first = (f"{shape[1]} x {shape[0]}" for shape in (frame.image.shape, self._shape))
            raise VideoError(f"the size of the frames changes at frame {frame.index}", size=size, before=first)
        picture = shrink(frame.image[None], self._config.decode_short_side)
        height, width = working_size(picture.shape[1], picture.shape[2], self._config.transform)
        working = resize_frames(picture, height, width)[0]
        self._kept.append(_Kept(frame.index, frame.time_s, working, picture[0] if self._want_flow else None))
        self.most = max(self.most, len(self._kept))

    def forget(self, before_s: float) -> None:
        """Let go of the frames before a time."""
        while self._kept and self._kept[0].time_s < before_s:
            self._kept.popleft()

    def footage(self, window: Window) -> Footage:
        """Frames, and flow if it was asked for, of a window whose numbers are places in the ring."""
        frames = np.stack([self._kept[place].working for place in window.frames])
        if not self._want_flow:
            return Footage(frames, None)
        pairs = zip(window.frames, window.targets, strict=True)
        return Footage(frames, np.stack([self._flow(self._kept[a], self._kept[b]) for a, b in pairs]).astype(np.float32))

    def _flow(self, first: _Kept, second: _Kept) -> NDArray[np.float16]:
        height, width = first.working.shape[:2]
        if first is second:  # a frame that is held stands still
            return np.zeros((height, width, 2), np.float16)
        if first.flow is None or first.target != second.index:
            assert first.picture is not None
            assert second.picture is not None
            flow = dis_flow(first.picture[None], second.picture[None], preset=self._config.flow.preset)
            first.flow, first.target = resize_flow(flow, height, width)[0].astype(np.float16), second.index
        return first.flow
