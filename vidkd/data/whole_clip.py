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
from vidkd.data.footage import Footage, FootageConfig, Seen, open_clip, shrink, stored_flow
from vidkd.data.manifest import Clip
from vidkd.data.observation import Request, choose_windows
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

    def seen(self, clip: Clip, config: FootageConfig, request: Request, *, name: str) -> Seen:
        """The observed part of the clip, and the teacher's."""
        observed, future = choose_windows(self.timestamps_s, clip, config.window, config.observe, request, name)
        seen = self._footage(observed, request.flow)
        return seen, None if future is None else self._footage(future, request.future_flow)

    def _footage(self, window: Window, want_flow: bool) -> Footage:
        """Copies of the frames and flow of a window; the flow that is stored points on, beyond what the window may see."""
        frames, flow = self.frames[window.frames], None
        if self.flow is not None and want_flow:
            flow = torch.from_numpy(self.flow[window.frames]).float().numpy()  # by torch, for which half precision is no slow type
            flow[window.targets == window.frames] = 0
        return Footage(frames, flow, window.held)


def read_whole(path: Path, clip: Clip, config: FootageConfig, *, want_flow: bool = True) -> WholeClip:
    """Decode all frames of `clip`, one after another, with flow between frames `pair_step` apart; what the cache stores.

    Frames of the file's own size are held a chunk at a time. Raises VideoError or DataError with the path if they cannot be read.
    """
    with open_clip(path, clip, config) as video:
        inside = frames_inside(video.timestamps_s, clip.start_s, clip.end_s)
        if len(inside) == 0:
            raise NoFrameError(f"no frame in the interval of {path}", interval_s=f"[{clip.start_s}, {clip.end_s})")
        frames, flows = zip(*_parts(video, inside, config, want_flow, clip.path), strict=True)
        return WholeClip(np.concatenate(frames), np.concatenate(flows) if want_flow else None, video.timestamps_s[inside])


def _parts(
    video: VideoReader, inside: NDArray[np.int64], config: FootageConfig, want_flow: bool, clip_path: str
) -> Iterator[tuple[Any, Any]]:
    """Frames and flow (or None) of the clip, chunk by chunk; each frame is decoded once, those that the next chunk needs too are kept."""
    count, step = len(inside), config.window.pair_step
    computes_flow = want_flow and config.flow.source == "dis"
    chunk = max(1, min(CHUNK_FRAMES, CHUNK_PIXELS // (video.info.width * video.info.height)))
    kept = shrink(video.frames_at_indices(inside[:1].tolist()), config.decode_short_side)
    for start in range(0, count, chunk):
        end = min(start + chunk, count)
        fresh = inside[start + len(kept) : min(end + step, count) if computes_flow else end]
        if len(fresh):
            kept = np.concatenate([kept, shrink(video.frames_at_indices(fresh.tolist()), config.decode_short_side)])
        here, numbers = kept[: end - start], np.arange(start, end)
        targets = np.minimum(numbers + step, count - 1)
        height, width = working_size(here.shape[1], here.shape[2], config.transform)
        flow = None
        if computes_flow:
            flow = dis_flow(here, kept[targets - start], preset=config.flow.preset)
        elif want_flow:  # pairs that the clip's end cuts short are asked for only where a window can reach them, else zero
            short = count < config.window.span
            window = Window(inside[numbers], inside[targets if short else np.where(numbers + step < count, targets, numbers)])
            flow = stored_flow(video, window, config, clip_path)
        yield resize_frames(here, height, width), None if flow is None else resize_flow(flow, height, width).astype(np.float16)
        kept = kept[end - start :]
