"""From a file to the frames and flow of one window: decode, compute flow from the same decoded frames, resize both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.data.flow import FlowConfig, dis_flow, resize_flow
from vidkd.data.flow_store import read_stored_flow
from vidkd.data.manifest import Clip
from vidkd.data.transforms import TransformConfig, resize_frames, working_size
from vidkd.data.windows import Window, WindowConfig, choose_window, frames_inside
from vidkd.video import VideoReader, open_video

CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class FootageConfig:
    """What is read from a file before any augmentation.

    Args:
        window: which frames.
        transform: sizes (the augmentation in it is not applied here).
        flow: how flow is computed.
        decode_short_side: frames whose shorter side is longer than this are shrunk to it when decoded; flow is computed at that size.
    """

    window: WindowConfig
    transform: TransformConfig
    flow: FlowConfig
    decode_short_side: int | None = 256


@dataclass(frozen=True)
class Footage:
    """Frames uint8 (T, h, w, 3) and, where asked for, flow float32 (T, h, w, 2) in pixels of these frames per flow step."""

    frames: NDArray[np.uint8]
    flow: NDArray[np.float32] | None


def read_window(path: Path, clip: Clip, config: FootageConfig, *, position: float, want_flow: bool) -> Footage:
    """Decode one window of `clip` from the file at `path`.

    position: in [0, 1], see `choose_window`. Raises VideoError or DataError with the path if the file or the window cannot be read.
    """
    with open_video(path, backend=_backend(clip)) as video:
        window = choose_window(video.timestamps_s, config.window, position=position, start_s=clip.start_s, end_s=clip.end_s, name=str(path))
        return footage_of(video, window, config, want_flow=want_flow, clip_path=clip.path)


def footage_of(video: VideoReader, window: Window, config: FootageConfig, *, want_flow: bool, clip_path: str = "") -> Footage:
    """Frames and flow of a window of an open video; flow comes from the same decoded frames, or from where it is stored for `clip_path`."""
    computes_flow = want_flow and config.flow.source == "dis"
    needed = window.needed if computes_flow else np.unique(window.frames)
    decoded = _shrink(video.frames_at_indices(needed.tolist()), config.decode_short_side)
    frames = decoded[np.searchsorted(needed, window.frames)]
    height, width = working_size(frames.shape[1], frames.shape[2], config.transform)
    flow = None
    if computes_flow:
        flow = dis_flow(frames, decoded[np.searchsorted(needed, window.targets)], preset=config.flow.preset)
    elif want_flow:
        flow = read_stored_flow(Path(str(config.flow.folder)), clip_path, window)
    return Footage(resize_frames(frames, height, width), None if flow is None else resize_flow(flow, height, width))


def _backend(clip: Clip) -> Literal["auto", "pyav"]:
    """A file whose random access was found to lie is read by the decoder that walks from key frame to key frame."""
    return "auto" if clip.index_reliable else "pyav"


def _shrink(frames: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    height, width = frames.shape[1:3]
    if short_side is None or min(height, width) <= short_side:
        return frames
    scale = short_side / min(height, width)
    return resize_frames(frames, round(height * scale), round(width * scale))


@dataclass(frozen=True)
class WholeClip:
    """Every frame of a clip at working size, its flow to the frame `pair_step` later (held at the end), and the frames' times."""

    frames: NDArray[np.uint8]
    flow: NDArray[np.float16]
    timestamps_s: NDArray[np.float64]

    def window(self, config: WindowConfig, *, position: float, name: str) -> Footage:
        """One window of the clip."""
        window = choose_window(self.timestamps_s, config, position=position, start_s=float(self.timestamps_s[0]), name=name)
        flow = np.asarray(self.flow[window.frames], np.float32)
        return Footage(np.asarray(self.frames[window.frames]), flow)


def read_whole(path: Path, clip: Clip, config: FootageConfig) -> WholeClip:
    """Decode all frames of `clip`, one after another, with flow between frames `pair_step` apart; what the cache stores."""
    with open_video(path, backend=_backend(clip)) as video:
        inside = frames_inside(video.timestamps_s, clip.start_s, clip.end_s)
        times = video.timestamps_s[inside]
        if len(inside) == 0:
            raise DataError(f"no frame in the interval of {path}", interval_s=f"[{clip.start_s}, {clip.end_s})")
        parts = [inside[start : start + CHUNK] for start in range(0, len(inside), CHUNK)]
        decoded = np.concatenate([_shrink(video.frames_at_indices(part.tolist()), config.decode_short_side) for part in parts])
    height, width = working_size(decoded.shape[1], decoded.shape[2], config.transform)
    targets = np.minimum(np.arange(len(inside)) + config.window.pair_step, len(inside) - 1)
    if config.flow.source == "dis":
        flow = dis_flow(decoded, decoded[targets], preset=config.flow.preset)
    else:
        flow = read_stored_flow(Path(str(config.flow.folder)), clip.path, Window(inside, inside[targets]))
    return WholeClip(resize_frames(decoded, height, width), resize_flow(flow, height, width).astype(np.float16), times)
