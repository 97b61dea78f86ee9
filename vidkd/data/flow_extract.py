"""Computing the flow of whole videos once, to be stored: TV-L1, RAFT or DIS."""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd import __version__
from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import sha256
from vidkd.data.flow import Preset, dis_flow, tvl1_flow, tvl1_settings
from vidkd.data.flow_store import read_side_file, write_stored_flow
from vidkd.data.transforms import shrink
from vidkd.video import open_video

Method = Literal["tvl1", "raft", "dis"]
FlowFunction: TypeAlias = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
BATCH_PAIRS = 8
FOLDER_FILE = "flow.json"
"""In a folder of stored flow, the settings of all that is in it."""


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """What is computed.

    Args:
        method: tvl1, raft or dis.
        flow_step: decoded frames from a frame to the one that its flow points at.
        short_side: larger frames are first shrunk so that their shorter side has this many pixels; flow is in pixels of that size.
        bound: longest component in pixels that is stored; the error of a stored component is at most bound / 4094.
        preset: speed of DIS.
        raft_model: raft_small or raft_large.
        weights: of RAFT: a file, or torchvision to download.
        device: where RAFT runs.
    """

    method: Method = "tvl1"
    flow_step: int = 4
    short_side: int = 128
    bound: float = 64.0
    preset: Preset = "fast"
    raft_model: str = "raft_small"
    weights: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.flow_step < 1 or self.short_side < 16 or not 0 < self.bound < float("inf"):
            raise ConfigError(
                "flow cannot be extracted so",
                flow_step=f"{self.flow_step} (at least 1)",
                short_side=f"{self.short_side} (at least 16)",
                bound=f"{self.bound} (above 0)",
            )

    def settings(self) -> dict[str, Any]:
        """Everything that decides the vectors, for the record. Raises CheckpointError for missing RAFT weights."""
        own: dict[str, Any] = {"preset": self.preset}
        if self.method == "tvl1":
            own = dict(tvl1_settings())
        elif self.method == "raft":
            flow_function(self)  # missing weights are found here, before anything is written
            weights = self.weights if self.weights == "torchvision" else sha256(str(self.weights))
            own = {"raft_model": self.raft_model, "weights": weights}
        return {"method": self.method, "flow_step": self.flow_step, "short_side": self.short_side, "bound": self.bound, **own}


@functools.lru_cache(maxsize=1)
def flow_function(config: ExtractConfig) -> FlowFunction:
    """The method as a function of two stacks of RGB frames (T, H, W, 3), giving (T, H, W, 2)."""
    if config.method == "tvl1":
        return tvl1_flow
    if config.method == "dis":
        return functools.partial(dis_flow, preset=config.preset)
    from vidkd.data.raft import load_raft, raft_flow

    return functools.partial(raft_flow, load_raft(config.raft_model, config.weights, config.device), device=config.device)


def flow_of_frames(frames: Iterable[NDArray[np.uint8]], flow: FlowFunction, step: int) -> Iterator[NDArray[np.float32]]:
    """One flow field (H, W, 2) for each frame (H, W, 3): to the frame `step` later, near the end to the last one; that one's is zero.

    `step` frames are held, and a batch of pairs.
    """
    pairs = _pairs(frames, step)
    last = None
    while batch := list(itertools.islice(pairs, BATCH_PAIRS)):
        last = batch[-1][1]
        moving = batch if batch[-1][0] is not last else batch[:-1]
        if moving:
            yield from flow(np.stack([first for first, _ in moving]), np.stack([second for _, second in moving]))
    if last is not None:
        yield np.zeros((*last.shape[:2], 2), np.float32)


def _pairs(frames: Iterable[NDArray[np.uint8]], step: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Each frame with the one `step` later, or the last one; the last with itself."""
    waiting: deque[NDArray[np.uint8]] = deque()
    for frame in frames:
        waiting.append(frame)
        if len(waiting) > step:
            yield waiting.popleft(), frame
    for frame in waiting:
        yield frame, waiting[-1]


def extract_clip(
    clip_path: str, *, root: Path, out: Path, config: ExtractConfig, settings: dict[str, Any], threads: int = 0
) -> dict[str, Any]:
    """Store the flow of the video `root / clip_path` below `out`, unless it is there already; runs in a worker process.

    threads: of OpenCV, 0 to leave them unchanged.
    Returns {"kept": bool, "frames", "clipped"}. Raises VideoError or DataError if the video cannot be read or has no frame.
    """
    if threads:
        cv2.setNumThreads(threads)
    source = root / clip_path
    if source.is_dir():
        raise DataError(
            f"{source} is a folder of images; flow is stored only for video files",
            hint="compute its flow on the fly (data.flow.source: dis), or write the images as a video",
        )
    if not source.is_file():
        raise DataError(f"no such video: {source}")
    digest = sha256(source)
    try:
        stored = read_side_file(out, clip_path)
    except DataError:
        stored = None
    kept = stored is not None and stored.source_sha256 == digest and stored.settings == settings
    if stored is None or not kept:
        libraries = ("torch", "torchvision") if config.method == "raft" else ()
        versions = {"vidkd": __version__, "cv2": cv2.__version__, **{name: version(name) for name in libraries}}
        with open_video(source) as video:
            small = (shrink(frame.image[None], config.short_side)[0] for frame in video.stream())
            stored = write_stored_flow(
                out,
                clip_path,
                flow_of_frames(small, flow_function(config), config.flow_step),
                bound=config.bound,
                fps=min(max(video.info.average_fps, 1.0), 240.0),
                record={
                    "method": config.method,
                    "settings": settings,
                    "flow_step": config.flow_step,
                    "source_sha256": digest,
                    "versions": versions,
                },
            )
    return {"kept": kept, "frames": stored.frame_count, "clipped": stored.clipped}
