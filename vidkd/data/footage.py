"""From a file to the frames and flow of one window: decode, compute flow from the same decoded frames, resize both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.data.flow import FlowConfig, dis_flow, resize_flow
from vidkd.data.flow_store import read_stored_flow
from vidkd.data.manifest import Clip
from vidkd.data.observation import ObserveConfig, SeenWindows, choose_windows
from vidkd.data.transforms import TransformConfig, resize_frames, working_size
from vidkd.data.windows import Window, WindowConfig, frames_inside
from vidkd.video import VideoReader, open_video
from vidkd.video.opening import Backend

CHUNK_FRAMES = 64
CHUNK_PIXELS = 2**25  # of the file's own size: a hundred megabytes of RGB


@dataclass(frozen=True, kw_only=True)
class FootageConfig:
    """What is read from a file before any augmentation.

    Args:
        window: which frames.
        observe: which part of a clip they come from, for student and teacher.
        transform: sizes (the augmentation in it is not applied here).
        flow: how flow is computed.
        decode_short_side: frames whose shorter side is longer than this are shrunk to it when decoded; flow is computed at that size.
        decoder: who decodes, see `open_video`.
    """

    window: WindowConfig
    transform: TransformConfig
    flow: FlowConfig
    decode_short_side: int | None = 256
    decoder: Backend = "auto"
    observe: ObserveConfig = field(default_factory=ObserveConfig)


@dataclass(frozen=True)
class Footage:
    """Frames uint8 (T, h, w, 3) and, where asked for, flow float32 (T, h, w, 2) in pixels of these frames per flow step."""

    frames: NDArray[np.uint8]
    flow: NDArray[np.float32] | None


def read_window(path: Path, clip: Clip, config: FootageConfig, *, position: float, want_flow: bool) -> Footage:
    """Decode one window of `clip` from the file at `path`.

    position: in [0, 1], see `choose_window`. Raises VideoError or DataError with the path if the file or the window cannot be read.
    """
    return read_seen(path, clip, config, Look(position=position, flow=want_flow)).observed


@dataclass(frozen=True)
class Look:
    """Which window of a clip is asked for, and for whom.

    position: in [0, 1], see `choose_window`. fraction: observed share of the clip (early recognition). flow: whether the student's view is
    flow too. future, future_flow: whether the teacher's part is asked for, and its flow.
    """

    position: float
    fraction: float | None = None
    flow: bool = False
    future: bool = False
    future_flow: bool = False

    def windows(self, timestamps_s: NDArray[np.float64], clip: Clip, config: FootageConfig, name: str) -> SeenWindows:
        """The frames of both parts."""
        return choose_windows(
            timestamps_s,
            clip,
            config.window,
            config.observe,
            position=self.position,
            fraction=self.fraction,
            observed_flow=self.flow,
            with_future=self.future,
            future_flow=self.future_flow,
            name=name,
        )


@dataclass(frozen=True)
class SeenFootage:
    """What the student observed and (where asked for) what its teacher sees; held, held_future: frames of that part are repeated."""

    observed: Footage
    future: Footage | None
    held: bool
    held_future: bool


def read_seen(path: Path, clip: Clip, config: FootageConfig, look: Look) -> SeenFootage:
    """Decode the observed part of `clip`, and the teacher's, from the file at `path`. Raises as `read_window` does."""
    with open_clip(path, clip, config) as video:
        windows = look.windows(video.timestamps_s, clip, config, str(path))
        observed = footage_of(video, windows.observed, config, want_flow=look.flow, clip_path=clip.path)
        future = None
        if windows.future is not None:
            future = footage_of(video, windows.future, config, want_flow=look.future_flow, clip_path=clip.path)
        return SeenFootage(observed, future, windows.held, windows.held_future)


def footage_of(video: VideoReader, window: Window, config: FootageConfig, *, want_flow: bool, clip_path: str = "") -> Footage:
    """Frames and flow of a window of an open video; flow comes from the same decoded frames, or from where it is stored for `clip_path`.

    Flow has half precision, as the cache keeps it: a sample is the same whether its clip was cached or not.
    """
    computes_flow = want_flow and config.flow.source == "dis"
    needed = window.needed if computes_flow else np.unique(window.frames)
    decoded = shrink(video.frames_at_indices(needed.tolist()), config.decode_short_side)
    frames = decoded[np.searchsorted(needed, window.frames)]
    height, width = working_size(frames.shape[1], frames.shape[2], config.transform)
    flow = None
    if computes_flow:
        flow = dis_flow(frames, decoded[np.searchsorted(needed, window.targets)], preset=config.flow.preset)
        flow[window.targets == window.frames] = 0  # a frame that is held stands still
    elif want_flow:
        flow = _stored_flow(video, window, config, clip_path)
    return Footage(
        resize_frames(frames, height, width), None if flow is None else _half(resize_flow(flow, height, width)).astype(np.float32)
    )


def _stored_flow(video: VideoReader, window: Window, config: FootageConfig, clip_path: str) -> NDArray[np.float32]:
    if not clip_path:
        raise DataError(
            "stored flow is known for the clips of a data set only", video=video.path, to_mend="data.flow.source=dis computes it"
        )
    return read_stored_flow(Path(str(config.flow.folder)), clip_path, window, frame_count=len(video))


def _half(flow: NDArray[np.float32]) -> NDArray[np.float16]:
    return flow.astype(np.float16)


def open_clip(path: Path, clip: Clip, config: FootageConfig) -> VideoReader:
    """Open a clip's file, or its folder of images, as its row and the configuration say."""
    return open_video(path, backend=backend_of(clip, config), sequence_fps=clip.fps)


def backend_of(clip: Clip, config: FootageConfig) -> Backend:
    """A file whose random access was found to lie is read by the decoder that walks from key frame to key frame, whoever was chosen."""
    return config.decoder if clip.index_reliable else "pyav"


def shrink(frames: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) scaled so that their shorter side is `short_side`; smaller ones, or all if it is None, stay as they are."""
    height, width = frames.shape[1:3]
    if short_side is None or min(height, width) <= short_side:
        return frames
    scale = short_side / min(height, width)
    return resize_frames(frames, round(height * scale), round(width * scale))


@dataclass(frozen=True)
class WholeClip:
    """Every frame of a clip at working size, the frames' times, and (where asked for) flow to the frame `pair_step` later.

    frames: uint8 (N, h, w, 3). flow: float16 (N, h, w, 2) or None; at the end it points to the last frame. timestamps_s: float64 (N,).
    """

    frames: NDArray[np.uint8]
    flow: NDArray[np.float16] | None
    timestamps_s: NDArray[np.float64]

    def seen(self, clip: Clip, config: FootageConfig, look: Look, *, name: str) -> SeenFootage:
        """The observed part of the clip, and the teacher's."""
        flow = None if self.flow is None else self.flow.__getitem__
        return seen_of(self.frames.__getitem__, flow, self.timestamps_s, clip, config, look, name=name)


Rows = Callable[[NDArray[np.int64]], NDArray[Any]]
"""The frames, or the flow, at these numbers within a clip, as a new array."""


def seen_of(
    frames: Rows, flow: Rows | None, timestamps_s: NDArray[np.float64], clip: Clip, config: FootageConfig, look: Look, *, name: str
) -> SeenFootage:
    """The observed part of a clip, and the teacher's, where all its frames and flow are at hand, as `WholeClip` describes them."""

    def footage(window: Window, want_flow: bool) -> Footage:
        return Footage(frames(window.frames), _flow_within(flow, window) if flow is not None and want_flow else None)

    windows = look.windows(timestamps_s, clip, config, name)
    future = None if windows.future is None else footage(windows.future, look.future_flow)
    return SeenFootage(footage(windows.observed, look.flow), future, windows.held, windows.held_future)


def _flow_within(flow: Rows, window: Window) -> NDArray[np.float32]:
    """Flow of a window; what is stored points on, beyond what the window may see."""
    found = torch.from_numpy(flow(window.frames)).float().numpy()  # by torch, for which half precision is no slow type
    found[window.targets == window.frames] = 0
    return found


def read_whole(path: Path, clip: Clip, config: FootageConfig, *, want_flow: bool = True) -> WholeClip:
    """Decode all frames of `clip`, one after another, with flow between frames `pair_step` apart; what the cache stores.

    Frames of the file's own size are held a chunk at a time. Raises as `read_window` does.
    """
    with open_clip(path, clip, config) as video:
        inside = frames_inside(video.timestamps_s, clip.start_s, clip.end_s)
        if len(inside) == 0:
            raise DataError(f"no frame in the interval of {path}", interval_s=f"[{clip.start_s}, {clip.end_s})")
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
        yield resize_frames(here, height, width), None if flow is None else _half(resize_flow(flow, height, width))
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
    return _stored_flow(video, Window(inside[numbers], inside[targets]), config, clip_path)
