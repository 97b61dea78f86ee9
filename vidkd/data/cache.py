"""Decoded clips on a fast disk: for small models decoding, not the network, is what a step waits for."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import DataError, VideoError, WriteError
from vidkd.base.files import atomic_write
from vidkd.base.walk import file_fingerprint
from vidkd.data.config import CacheConfig
from vidkd.data.flow import FlowConfig, dis_flow, resize_flow
from vidkd.data.flow_store import stored_flow_files
from vidkd.data.footage import Footage, FootageConfig, Seen, open_clip, read_seen, stored_flow
from vidkd.data.manifest import Clip
from vidkd.data.observation import Request, Window, choose_windows, frames_inside, hull
from vidkd.data.transforms import resize_frames, shrink, working_size
from vidkd.video import VideoReader

log = logging.getLogger(__name__)
FORMAT = 3
SHARERS = 8
CHUNK_FRAMES = 64
CHUNK_PIXELS = 2**25  # of the file's own size: a hundred megabytes of RGB


class NoFrameError(DataError):
    """An interval of a file in which no frame lies."""


@dataclass(frozen=True)
class WholeClip:
    """Every frame of a clip at working size, the frames' times, and (where asked for) flow to the frame `pair_step` later.

    frames: uint8 (N, h, w, 3). flow: float16 (N, h, w, 2) or None; at the end it points to the last frame. timestamps_s: float64 (N,).
    """

    frames: "NDArray[Any] | Rows"
    flow: "NDArray[Any] | Rows | None"
    timestamps_s: NDArray[np.float64]

    def seen(self, clip: Clip, config: FootageConfig, request: Request, *, name: str) -> Seen:
        """The observed part of the clip, and the teacher's."""
        observed, future = choose_windows(self.timestamps_s, clip, config.window, config.observe, request, name)
        seen = self._footage(observed, config, request.flow, name)
        return seen, None if future is None else self._footage(future, config, request.future_flow, name)

    def _footage(self, window: Window, config: FootageConfig, want_flow: bool, name: str) -> Footage:
        """Copies of the frames and flow of a window; the flow that is stored points on, beyond what the window may see."""
        frames, flow = self.frames[window.frames], None
        if self.flow is not None and want_flow:
            pairs = window.pairs(config.flow.stack, config.window.pair_step, name)
            flow = torch.from_numpy(self.flow[pairs.frames]).float().numpy()  # by torch, for which half precision is no slow type
            flow[pairs.targets == pairs.frames] = 0
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


class ClipCache:
    """Whole decoded clips as .npy files, keyed by the file's identity and everything that decides their content.

    The operating system's page cache shares them between processes; a full cache or disk only makes reading slower.
    `refused` holds the keys of the clips that this process could not keep for want of room.
    """

    def __init__(self, config: CacheConfig, footage: FootageConfig) -> None:
        self.folder = Path(config.folder)
        self.footage = footage
        self.quota = DiskQuota(self.folder, int(config.max_gb * 2**30))
        self.refused: set[str] = set()

    def key(self, path: Path, clip: Clip) -> str:
        """Name of the entry: changes with the file's size or time, the interval, the sizes, the flow and the versions that computed it.

        Raises VideoError if there is no such file.
        """
        file = (os.path.realpath(path), *cached_file(path, self.footage.flow, clip.path))
        return _new_key(self.footage, file, clip.fps, clip.start_s, clip.end_s)

    def seen(self, path: Path, clip: Clip, request: Request) -> Seen:
        """What `read_seen` returns, from the cache where the clip is kept or can be; raises what `read_seen` raises."""
        seconds = hull(clip, self.footage.observe)
        part = dataclasses.replace(clip, start_s=seconds.start_s, end_s=seconds.end_s, onset_s=None)
        with contextlib.suppress(NoFrameError):  # `read_seen` says what has no frame: the observed part, or the clip
            if self.key(path, part) not in self.refused:
                whole = self.read(path, part, want_flow=request.flow or request.future_flow)
                return whole.seen(clip, self.footage, request, name=str(path))
        return read_seen(path, clip, self.footage, request)

    def read(self, path: Path, clip: Clip, *, want_flow: bool = True) -> WholeClip:
        """The clip from the cache, decoded and stored first when it is not there. Raises what reading the file raises."""
        key = self.key(path, clip)
        kept = self._load(key, want_flow)
        if kept is not None:
            return kept
        whole = read_whole(path, clip, self.footage, want_flow=want_flow)
        self._store(key, whole)
        return whole

    def _file(self, key: str, part: str) -> str:
        return f"{self.folder}/{key[:2]}/{key}.{part}.npy"

    def _load(self, key: str, want_flow: bool) -> WholeClip | None:
        """The entry, whose frames are read when they are asked for; None if a part is missing, torn or of another length."""
        try:
            times = _times(*_identity(self._file(key, "times")))
            frames = Rows(self._file(key, "frames"))
            flow = Rows(self._file(key, "flow")) if want_flow else None
        except (OSError, ValueError, EOFError):
            return None
        whole = len(frames) == len(times) and (flow is None or len(flow) == len(times))
        return WholeClip(frames, flow, times) if whole else None

    def _store(self, key: str, whole: WholeClip) -> None:
        parts = {"frames": whole.frames, "flow": whole.flow, "times": whole.timestamps_s}
        arrays = {part: np.asarray(array) for part, array in parts.items() if array is not None}
        try:
            if not self.quota.take(sum(array.nbytes for array in arrays.values())):
                self._refuse(key, f"is full ({self.quota.limit_bytes / 2**30:.1f} GiB)")
                return
            for part, array in arrays.items():
                with atomic_write(Path(self._file(key, part)), "wb") as file:
                    np.save(file, array, allow_pickle=False)
        except WriteError as error:
            self._refuse(key, f"cannot be written ({error.lines['reason']})")

    def _refuse(self, key: str, why: str) -> None:
        if not self.refused:
            log.warning("cache %s %s: further clips are decoded every time", self.folder, why)
        self.refused.add(key)


class _Layout(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int


class Rows:
    """The array of a .npy file along its first axis, read row by row: to map a file costs more than to read the frames of a window.

    Raises OSError or ValueError for a file that is missing or torn, also when it is cut while it is open.
    """

    def __init__(self, file: str) -> None:
        self._file = open(file, "rb", buffering=0)  # noqa: SIM115 - open as long as this object
        self._layout = _layout(*_identity(file))

    def __len__(self) -> int:
        return self._layout.shape[0]

    def __getitem__(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """A new array of these rows."""
        found = np.empty((len(numbers), *self._layout.shape[1:]), self._layout.dtype)
        size = found.nbytes // max(len(numbers), 1)
        for number, place in zip(numbers.tolist(), found, strict=True):
            self._file.seek(self._layout.offset + number * size)
            if self._file.readinto(place.data) != size:
                raise OSError(f"{self._file.name} was cut while it was read")
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[np.arange(len(self))].astype(dtype or self._layout.dtype, copy=False)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def _identity(file: str) -> tuple[str, int, int, int]:
    """Name, place, length and time of modification: a file that was replaced, cut or mended is another one."""
    status = os.stat(file)  # noqa: PTH116
    return file, status.st_ino, status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=65_536)
def _layout(file: str, *_: int) -> _Layout:
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    if not array.flags.c_contiguous:
        raise ValueError(f"{file} is not in C order")
    return _Layout(array.dtype, array.shape, array.offset)


@functools.lru_cache(maxsize=65_536)
def _times(file: str, *_: int) -> NDArray[np.float64]:
    array: NDArray[np.float64] = np.load(file, allow_pickle=False)
    array.flags.writeable = False
    return array


class DiskQuota:
    """How much of a folder's allowance is taken: a running total, which starts with what is there.

    Other processes write there too, so the folder is measured again once this one took 1 / `SHARERS` of the room that was left: so many
    processes at once stay within the limit, and a folder far from it is hardly ever walked through.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._measured: int | None = None
        self._taken = 0

    def take(self, size: int) -> bool:
        """Take `size` bytes if they fit."""
        if self._measured is None or self._taken * SHARERS > self.limit_bytes - self._measured:
            self._measured, self._taken = self._measure(), 0
        fits = self._measured + self._taken + size <= self.limit_bytes
        self._taken += size if fits else 0
        return fits

    def _measure(self) -> int:
        total = 0
        for file in self.folder.glob("*/*.np[yz]"):
            with contextlib.suppress(FileNotFoundError):
                total += file.stat().st_size
        return total


def cached_file(path: Path, flow: FlowConfig, clip: str) -> tuple[int | str, ...]:
    """What tells a video and its stored flow from others of the same name: sizes and times. Raises VideoError for a missing video."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat
    except OSError as error:
        raise VideoError(f"no such video: {path}", reason=error.strerror) from error
    stored = () if flow.source == "dis" else stored_flow_files(str(flow.folder), clip)
    return (status.st_size, status.st_mtime_ns, *(file_fingerprint(str(file)) for file in stored))


@functools.lru_cache(maxsize=65_536)  # to make one takes as long as to read a window
def _new_key(footage: FootageConfig, *decides: Any) -> str:
    sizes = [footage.transform.short_side, footage.transform.square, footage.decode_short_side]
    made = {name: value for name, value in dataclasses.asdict(footage.flow).items() if name != "stack"}  # fields are kept, not stacks
    flow = [made, footage.window.pair_step]
    rule = [FORMAT, cv2.__version__, decides, sizes, flow, footage.decoder]
    return hashlib.sha256(json.dumps(rule, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]
