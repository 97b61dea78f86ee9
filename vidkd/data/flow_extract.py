"""Computing the flow of whole videos once, to be stored: TV-L1, RAFT or DIS."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import read_json, sha256, write_json
from vidkd.data.flow import Preset, dis_flow
from vidkd.data.flow_store import SCHEMA_VERSION, read_side_file, write_stored_flow
from vidkd.data.footage import shrink
from vidkd.video import open_video

Method = Literal["tvl1", "raft", "dis"]
FlowFunction: TypeAlias = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
BATCH_PAIRS = 8
FOLDER_FILE = "flow.json"


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
        if self.method not in get_args(Method):
            raise ConfigError(f"unknown flow method '{self.method}'", known=", ".join(get_args(Method)))
        if self.flow_step < 1 or self.short_side < 16 or not 0 < self.bound < float("inf"):
            raise ConfigError(
                "flow cannot be extracted so",
                flow_step=f"{self.flow_step} (at least 1)",
                short_side=f"{self.short_side} (at least 16)",
                bound=f"{self.bound} (above 0)",
            )

    def settings(self) -> dict[str, Any]:
        """Everything that decides the vectors, for the record. Raises CheckpointError for missing RAFT weights."""
        common = {"method": self.method, "flow_step": self.flow_step, "short_side": self.short_side, "bound": self.bound}
        return {**common, **_METHOD_SETTINGS[self.method](self)}


def _tvl1_settings(_config: ExtractConfig) -> dict[str, Any]:
    from vidkd.data.tvl1 import tvl1_settings

    return dict(tvl1_settings())


def _raft_settings(config: ExtractConfig) -> dict[str, Any]:
    _raft(config.raft_model, config.weights, config.device)  # missing weights are found here, before anything is written
    is_file = config.weights != "torchvision"
    return {"raft_model": config.raft_model, "weights": sha256(str(config.weights)) if is_file else "torchvision"}


def _dis_settings(config: ExtractConfig) -> dict[str, Any]:
    return {"preset": config.preset}


_METHOD_SETTINGS: dict[Method, Callable[[ExtractConfig], dict[str, Any]]] = {
    "tvl1": _tvl1_settings,
    "raft": _raft_settings,
    "dis": _dis_settings,
}


@functools.lru_cache(maxsize=1)
def _raft(name: str, weights: str | None, device: str) -> Any:
    from vidkd.data.raft import load_raft

    return load_raft(name, weights, device)


def flow_function(config: ExtractConfig) -> FlowFunction:
    """The method as a function of two stacks of RGB frames (T, H, W, 3), giving (T, H, W, 2)."""
    if config.method == "dis":
        return functools.partial(dis_flow, preset=config.preset)
    if config.method == "raft":
        from vidkd.data.raft import raft_flow

        return functools.partial(raft_flow, _raft(config.raft_model, config.weights, config.device), device=config.device)
    from vidkd.data.tvl1 import tvl1_flow

    return tvl1_flow


def flow_of_frames(frames: Iterable[NDArray[np.uint8]], flow: FlowFunction, step: int) -> Iterator[NDArray[np.float32]]:
    """One flow field (H, W, 2) for each frame (H, W, 3): to the frame `step` later, near the end to the last one; that one's is zero.

    `step` frames are held, and a batch of pairs.
    """
    waiting: deque[NDArray[np.uint8]] = deque()
    batch: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
    for frame in frames:
        if len(waiting) == step:
            batch.append((waiting.popleft(), frame))
        waiting.append(frame)
        if len(batch) == BATCH_PAIRS:
            yield from _flow_of_pairs(batch, flow)
            batch = []
    batch += [(frame, waiting[-1]) for frame in list(waiting)[:-1]]
    for start in range(0, len(batch), BATCH_PAIRS):
        yield from _flow_of_pairs(batch[start : start + BATCH_PAIRS], flow)
    if waiting:
        yield np.zeros((*waiting[-1].shape[:2], 2), np.float32)


def _flow_of_pairs(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], flow: FlowFunction) -> NDArray[np.float32]:
    return flow(np.stack([first for first, _ in pairs]), np.stack([second for _, second in pairs]))


def claim_folder(out: Path, settings: dict[str, Any]) -> None:
    """Record the settings in the folder, or check that they are those recorded there: a folder holds one kind of flow.

    Raises ConfigError if they differ.
    """
    path = out / FOLDER_FILE
    record = {"schema_version": SCHEMA_VERSION, "settings": settings}
    if not path.exists():
        write_json(path, record)
        return
    there = read_json(path)
    if there == record:
        return
    found = there.get("settings", {}) if isinstance(there, dict) else {}
    names = sorted(name for name in {*settings, *found} if settings.get(name) != found.get(name))
    raise ConfigError(
        f"the folder holds flow made otherwise: {out}",
        recorded_in=path,
        differing="; ".join(f"{name}: {found.get(name)!r} there, {settings.get(name)!r} asked" for name in names),
        hint="choose another folder with --out",
    )


def extract_clip(
    clip_path: str, *, root: Path, out: Path, config: ExtractConfig, settings: dict[str, Any], in_order: frozenset[str], threads: int = 0
) -> dict[str, Any]:
    """Store the flow of the video `root / clip_path` below `out`, unless it lies there whole; runs in a worker process.

    in_order: clips whose random access is not reliable. threads: of OpenCV, 0 to leave them as they are.
    Returns {"kept": bool, "frames", "clipped"}. Raises VideoError or DataError if the video cannot be read or has no frame.
    """
    if threads:
        cv2.setNumThreads(threads)
    source = root / clip_path
    if source.is_dir():
        raise DataError(
            f"{source} is a folder of images; flow is stored for video files alone",
            hint="compute its flow on the fly (data.flow.source: dis), or write the images as a video",
        )
    if not source.is_file():
        raise DataError(f"no such video: {source}")
    digest = sha256(source)
    kept = _kept(out, clip_path, settings, digest)
    if kept is not None:
        return kept
    with open_video(source, backend="pyav" if clip_path in in_order else "auto") as video:
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
                "versions": _versions(config.method),
            },
        )
    return {"kept": False, "frames": stored.frame_count, "clipped": stored.clipped}


def _kept(out: Path, clip_path: str, settings: dict[str, Any], digest: str) -> dict[str, Any] | None:
    """The answer for a clip whose flow lies there, computed from these very bytes with these settings."""
    try:
        stored = read_side_file(out, clip_path)
    except DataError:
        return None
    if stored.source_sha256 != digest or stored.settings != settings:
        return None
    return {"kept": True, "frames": stored.frame_count, "clipped": stored.clipped}


def _versions(method: Method) -> dict[str, str]:
    from vidkd import __version__

    names = ("torch", "torchvision") if method == "raft" else ()
    return {"vidkd": __version__, "cv2": cv2.__version__, **{name: version(name) for name in names}}
