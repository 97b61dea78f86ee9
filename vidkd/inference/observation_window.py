"""What a classifier is shown of a running video at some time, the same part and frames as in its training, and the frames kept for it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, VideoError
from vidkd.data.config import DataConfig
from vidkd.data.flow import dis_flow, resize_flow
from vidkd.data.footage import Footage, FootageConfig
from vidkd.data.observation import SAME_S, Seconds, Window, window_in
from vidkd.data.transforms import resize_frames, shrink, working_size
from vidkd.runtime.metadata import View
from vidkd.video import Frame

WINDOW_S = 2.0
LONGEST_S = 10.0
TRAINED_FOR = {
    "anticipation": "anticipation",
    "early": "early recognition, of clips seen in part",
    "whole": "recognition of whole clips",
}
"""Each protocol in words."""


@dataclass(frozen=True, kw_only=True)
class ObservationWindow:
    """Which seconds before now a classifier sees, and of which moment it speaks.

    protocol: what it was trained with. seconds: how far back its windows reach. gap_s: how far ahead the moment is of which it speaks;
    0 for a classifier that was trained without a gap. assumed: `seconds` is no setting of its training. pairs: flow pairs lie inside too.
    stack: flow fields of each frame.
    """

    protocol: str
    seconds: float
    gap_s: float
    assumed: bool
    pairs: bool
    stack: int
    data: DataConfig

    @property
    def needed(self) -> int:
        """Frames of the video that a window reaches over; 1 where frames may be repeated."""
        window = self.data.window
        stacked = self.stack * window.pair_step + 1 if self.stack > 1 else 1
        return max(stacked, 1 if window.short_clip == "hold" else window.sampled_span + (window.pair_step if self.pairs else 0))

    def part(self, time_s: float) -> Seconds:
        """The seconds that are seen at a time; the frame shown at that very time belongs to them."""
        return Seconds(max(0.0, time_s - self.seconds), time_s, closed=True)

    def reaches_s(self, time_s: float) -> float:
        """Frames before this time are seen neither at `time_s` nor later."""
        return self.part(time_s).start_s - SAME_S

    def windows(self, timestamps_s: NDArray[np.float64], time_s: float) -> tuple[list[Window], bool]:
        """The windows that an evaluation takes of that part, and whether frames are repeated in one of them.

        timestamps_s: (N,) of all frames of the part at least. Raises DataError if the part has no frames, or too few for a window.
        """
        clips = self.data.eval_clips
        name = f"{self.seconds:g} s before {time_s:.2f} s"
        found = [
            window_in(self.part(time_s), timestamps_s, self.data.window, (number + 0.5) / clips, self.pairs, name)
            for number in range(clips)
        ]
        for window in found:
            self.reached(window, name)
        return found, any(window.held for window in found)

    def reached(self, window: Window, name: str = "window") -> Window:
        """The pairs of frames whose flow is seen with a window. Raises DataError where too few frames are there for a stack of it."""
        return window.pairs(self.stack, self.data.window.pair_step, name)


def observation_window(data: DataConfig, view: View, *, window_s: float | None = None) -> ObservationWindow:
    """The observation of a classifier that was trained with these settings.

    window_s: seconds that are seen where training does not say: of a running video it is `WINDOW_S` for a classifier of whole or partly
    seen clips, which is shown the window as a clip that it sees whole, and `LONGEST_S` for anticipation from all since the beginning.
    Raises ConfigError if training does say, if it is not above 0, or for flow that is stored.
    """
    if view == "flow" and data.flow.source == "stored":
        raise ConfigError(
            "this network was trained on flow that is stored for the clips of its data set; a running video has none",
            found="data.flow.source=stored",
            hint="a network of RGB, or one trained with data.flow.source=dis",
        )
    if window_s is not None and not 0 < window_s < np.inf:
        raise ConfigError(f"the window must be above 0 seconds, not {window_s:g}")
    observe = data.observe
    anticipates = observe.protocol == "anticipation"
    if anticipates and observe.observe_s is not None and window_s is not None:
        raise ConfigError(
            f"this network sees {observe.observe_s:g} s, as in its training; it cannot be given {window_s:g} s",
            hint="leave --window-s out",
        )
    trained_s = observe.observe_s if anticipates else None
    seconds = trained_s or window_s or (LONGEST_S if anticipates else WINDOW_S)
    return ObservationWindow(
        protocol=observe.protocol,
        seconds=seconds,
        gap_s=observe.gap_s if anticipates else 0.0,
        assumed=trained_s is None,
        pairs=view == "flow" or observe.protocol == "whole",  # windows of whole clips leave room for a pair whatever the view
        stack=data.flow.stack if view == "flow" else 1,
        data=data,
    )


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
        pairs = window.pairs(self._config.flow.stack, self._config.window.pair_step, "window")
        ends = zip(pairs.frames, pairs.targets, strict=True)
        return Footage(frames, np.stack([self._flow(self._kept[a], self._kept[b]) for a, b in ends]).astype(np.float32))

    def _flow(self, first: _Kept, second: _Kept) -> NDArray[np.float16]:
        height, width = first.working.shape[:2]
        if first is second:  # a repeated frame does not move
            return np.zeros((height, width, 2), np.float16)
        if first.flow is None or first.target != second.index:
            assert first.picture is not None
            assert second.picture is not None
            flow = dis_flow(first.picture[None], second.picture[None], preset=self._config.flow.preset)
            first.flow, first.target = resize_flow(flow, height, width)[0].astype(np.float16), second.index
        return first.flow
