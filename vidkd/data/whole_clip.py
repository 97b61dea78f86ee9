"""Clips decoded whole, with their flow: what the cache stores, and the views that windows cut out of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.data.flow import dis_flow, resize_flow
from vidkd.data.footage import Footage, FootageConfig, Look, SeenFootage, half, open_clip, shrink, stored_flow
from vidkd.data.manifest import Clip
from vidkd.data.transforms import resize_frames, working_size
from vidkd.data.windows import Window, frames_inside
from vidkd.video import VideoReader

CHUNK_FRAMES = 64
CHUNK_PIXELS = 2**25  # of the file's own size: a hundred megabytes of RGB


class NoFrameError(DataError):
    """An interval of a file in which no frame lies."""


class Frames(Protocol):
    """An array, or what reads its rows from a file."""

    def __len__(self) -> int: ...
    def __getitem__(self, numbers: NDArray[np.int64], /) -> NDArray[Any]: ...
    def __array__(self, dtype: Any = None, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class WholeClip:
    """Every frame of a clip at working size, the frames' times, and (where asked for) flow to the frame `pair_step` later.

    frames: uint8 (N, h, w, 3). flow: float16 (N, h, w, 2) or None; at the end it points to the last frame. timestamps_s: float64 (N,).
    """

    frames: Frames
    flow: Frames | None
    timestamps_s: NDArray[np.float64]

    def seen(self, clip: Clip, config: FootageConfig, look: Look, *, name: str) -> SeenFootage:
        """The observed part of the clip, and the teacher's."""
        windows = look.windows(self.timestamps_s, clip, config, name)
        future = None if windows.future is None else self._footage(windows.future, look.future_flow)
        return SeenFootage(self._footage(windows.observed, look.flow), future, windows.held, windows.held_future)

    def _footage(self, window: Window, want_flow: bool) -> Footage:
        """Copies of the frames and flow of a window; the flow that is stored points on, beyond what the window may see."""
        frames = self.frames[window.frames]
        if self.flow is None or not want_flow:
            return Footage(frames, None)
        flow = torch.from_numpy(self.flow[window.frames]).float().numpy()  # by torch, for which half precision is no slow type
        flow[window.targets == window.frames] = 0
        return Footage(frames, flow)


def read_whole(path: Path, clip: Clip, config: FootageConfig, *, want_flow: bool = True) -> WholeClip:
    """Decode all frames of `clip`, one after another, with flow between frames `pair_step` apart; what the cache stores.

    Frames of the file's own size are held a chunk at a time. Raises VideoError or DataError with the path if they cannot be read.
    """
    with open_clip(path, clip, config) as video:
        inside = frames_inside(video.timestamps_s, clip.start_s, clip.end_s)
        if len(inside) == 0:
            raise NoFrameError(f"no frame in the interval of {path}", interval_s=f"[{clip.start_s}, {clip.end_s})")
        parts = list(_parts(video, inside, config, want_flow, clip.path))
        times = video.timestamps_s[inside]
    flow = np.concatenate([flow for _, flow in parts if flow is not None]) if want_flow else None
    return WholeClip(np.concatenate([frames for frames, _ in parts]), flow, times)


_Part = tuple[NDArray[np.uint8], NDArray[np.float16] | None]


def _parts(video: VideoReader, inside: NDArray[np.int64], config: FootageConfig, want_flow: bool, clip_path: str) -> Iterator[_Part]:
    """Frames and flow of the clip, chunk by chunk; each frame is decoded once, those that the next chunk needs too are kept."""
    count, step = len(inside), config.window.pair_step
    computes_flow = want_flow and config.flow.source == "dis"
    chunk = max(1, min(CHUNK_FRAMES, CHUNK_PIXELS // (video.info.width * video.info.height)))
    kept: NDArray[np.uint8] | None = None
    for start in range(0, count, chunk):
        end = min(start + chunk, count)
        kept = _read_on(video, inside[start : min(end + step, count) if computes_flow else end], kept, config.decode_short_side)
        here = kept[: end - start]
        height, width = working_size(here.shape[1], here.shape[2], config.transform)
        flow = None
        if computes_flow:
            flow = dis_flow(here, kept[np.minimum(np.arange(start, end) + step, count - 1) - start], preset=config.flow.preset)
        elif want_flow:
            flow = _stored_part(video, inside, slice(start, end), config, clip_path)
        yield resize_frames(here, height, width), None if flow is None else half(resize_flow(flow, height, width))
        kept = kept[end - start :]


def _read_on(video: VideoReader, indices: NDArray[np.int64], kept: NDArray[np.uint8] | None, short_side: int | None) -> NDArray[np.uint8]:
    """The frames at `indices`, of which the first `len(kept)` are in `kept` already."""
    if kept is None or len(kept) == 0:
        return shrink(video.frames_at_indices(indices.tolist()), short_side)
    if len(kept) == len(indices):
        return kept
    return np.concatenate([kept, shrink(video.frames_at_indices(indices[len(kept) :].tolist()), short_side)])


def _stored_part(video: VideoReader, inside: NDArray[np.int64], part: slice, config: FootageConfig, clip_path: str) -> NDArray[np.float32]:
    """Stored flow of a chunk. Pairs that the clip's end cuts short are asked for only where a window can reach them, else zero."""
    count, step = len(inside), config.window.pair_step
    numbers = np.arange(part.start, part.stop)
    targets = np.minimum(numbers + step, count - 1)
    if count >= config.window.span:
        targets = np.where(numbers + step < count, targets, numbers)
    return stored_flow(video, Window(inside[numbers], inside[targets]), config, clip_path)
