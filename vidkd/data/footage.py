"""From a file to the frames and flow of one window: decode, compute flow from the same decoded frames, resize both."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.data.flow import FlowConfig, dis_flow, resize_flow
from vidkd.data.flow_store import read_stored_flow
from vidkd.data.manifest import Clip
from vidkd.data.transforms import TransformConfig, resize_frames, working_size
from vidkd.data.windows import Window, WindowConfig, choose_window, frames_inside
from vidkd.video import open_video


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
    with open_video(path, short_side=config.decode_short_side, trust_index=clip.index_reliable) as video:
        window = choose_window(video.timestamps_s, config.window, position=position, start_s=clip.start_s, end_s=clip.end_s, name=str(path))
        computes_flow = want_flow and config.flow.source == "dis"
        needed = window.needed if computes_flow else np.unique(window.frames)
        decoded = video.frames_at_indices(needed.tolist())
    frames = decoded[np.searchsorted(needed, window.frames)]
    height, width = working_size(*frames.shape[1:3], config.transform)
    flow = None
    if computes_flow:
        flow = dis_flow(frames, decoded[np.searchsorted(needed, window.targets)], preset=config.flow.preset)
    elif want_flow:
        flow = read_stored_flow(Path(str(config.flow.folder)), clip.path, window)
    return Footage(resize_frames(frames, height, width), None if flow is None else resize_flow(flow, height, width))


@dataclass(frozen=True)
class WholeClip:
    """Every frame of a clip at working size, its flow to the frame `pair_step` later (held at the end), and the frames' times."""

    frames: NDArray[np.uint8]
    flow: NDArray[np.float16] | None
    timestamps_s: NDArray[np.float64]

    def window(self, config: WindowConfig, *, position: float, name: str) -> Footage:
        """One window of the clip."""
        window = choose_window(self.timestamps_s, config, position=position, start_s=float(self.timestamps_s[0]), name=name)
        flow = None if self.flow is None else np.asarray(self.flow[window.frames], np.float32)
        return Footage(np.asarray(self.frames[window.frames]), flow)


def read_whole(path: Path, clip: Clip, config: FootageConfig) -> WholeClip:
    """Decode all frames of `clip`, one after another, with flow between frames `pair_step` apart; what the cache stores."""
    with open_video(path, short_side=config.decode_short_side, trust_index=clip.index_reliable) as video:
        inside = frames_inside(video.timestamps_s, clip.start_s, clip.end_s)
        times = video.timestamps_s[inside]
        decoded = video.frames_at_indices(inside.tolist())
    height, width = working_size(*decoded.shape[1:3], config.transform)
    targets = np.minimum(np.arange(len(inside)) + config.window.pair_step, len(inside) - 1)
    if config.flow.source == "dis":
        flow = dis_flow(decoded, decoded[targets], preset=config.flow.preset)
    else:
        flow = read_stored_flow(Path(str(config.flow.folder)), clip.path, Window(inside, inside[targets]))
    return WholeClip(resize_frames(decoded, height, width), resize_flow(flow, height, width).astype(np.float16), times)
