"""From a file to the frames and flow of one window: decode, compute flow from the same decoded frames, resize both.

Nothing here imports torch: exported classifiers are shown the same frames.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.data.flow import FlowConfig, dis_flow, resize_flow
from vidkd.data.flow_store import read_stored_flow
from vidkd.data.manifest import Clip
from vidkd.data.observation import ObserveConfig, Request, Window, WindowConfig, choose_windows
from vidkd.data.transforms import TransformConfig, resize_frames, shrink, working_size
from vidkd.video import VideoReader, open_video
from vidkd.video.opening import Backend


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
    """Frames uint8 (T, h, w, 3) and, where asked for, flow float32 (T, h, w, 2) in pixels of these frames per flow step.

    Stacked flow has L fields for each frame, one frame's after another's: (T * L, h, w, 2).

    held: frames are repeated, since the part of the clip was short.
    """

    frames: NDArray[np.uint8]
    flow: NDArray[np.float32] | None
    held: bool = False


Seen = tuple[Footage, Footage | None]
"""What the student observed and, where asked for, what its teacher sees."""


def read_seen(path: Path, clip: Clip, config: FootageConfig, request: Request) -> Seen:
    """Decode the observed part of `clip`, and the teacher's, from the file at `path`.

    Raises VideoError or DataError with the path if the file or a window cannot be read.
    """
    with open_clip(path, clip, config) as video:
        observed, future = choose_windows(video.timestamps_s, clip, config.window, config.observe, request, str(path))
        seen = footage_of(video, observed, config, want_flow=request.flow, clip_path=clip.path)
        if future is None:
            return seen, None
        return seen, footage_of(video, future, config, want_flow=request.future_flow, clip_path=clip.path)


def footage_of(video: VideoReader, window: Window, config: FootageConfig, *, want_flow: bool, clip_path: str = "") -> Footage:
    """Frames and flow of a window of an open video; flow comes from the same decoded frames, or from where it is stored for `clip_path`.

    Flow has half precision, as the cache keeps it: a sample is the same whether its clip was cached or not.
    """
    computes_flow = want_flow and config.flow.source == "dis"
    pairs = window.pairs(config.flow.stack, config.window.pair_step, str(video.path)) if want_flow else window
    needed = np.unique(np.concatenate([window.frames, pairs.needed])) if computes_flow else np.unique(window.frames)
    decoded = shrink(video.frames_at_indices(needed.tolist()), config.decode_short_side)
    frames = decoded[np.searchsorted(needed, window.frames)]
    height, width = working_size(frames.shape[1], frames.shape[2], config.transform)
    flow = None
    if computes_flow:
        ends, places = np.unique(np.searchsorted(needed, [pairs.frames, pairs.targets]), axis=1, return_inverse=True)
        flow = dis_flow(decoded[ends[0]], decoded[ends[1]], preset=config.flow.preset)[places]  # stacks overlap: each pair once
        flow[pairs.targets == pairs.frames] = 0  # a frame that is held does not move
    elif want_flow:
        flow = stored_flow(video, pairs, config, clip_path)
    resized = None if flow is None else resize_flow(flow, height, width).astype(np.float16).astype(np.float32)
    return Footage(resize_frames(frames, height, width), resized, window.held)


def stored_flow(video: VideoReader, window: Window, config: FootageConfig, clip_path: str) -> NDArray[np.float32]:
    """Flow of a window from where it is stored. Raises DataError for a video that is no clip of a data set, and as `read_stored_flow`."""
    if not clip_path:
        raise DataError("stored flow is known for the clips of a data set only", video=video.path, hint="data.flow.source=dis computes it")
    return read_stored_flow(Path(str(config.flow.folder)), clip_path, window, frame_count=len(video))


def open_clip(path: Path, clip: Clip, config: FootageConfig) -> VideoReader:
    """Open a clip's file, or its folder of images, as its row and the configuration say."""
    return open_video(path, backend=config.decoder, sequence_fps=clip.fps)
