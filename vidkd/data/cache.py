"""Decoded clips on a fast disk: for small models decoding, not the network, is what a step waits for."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import VideoError
from vidkd.base.files import atomic_write
from vidkd.base.walk import file_fingerprint
from vidkd.data.config import CacheConfig
from vidkd.data.flow_store import stored_flow_files
from vidkd.data.footage import FootageConfig, Look, SeenFootage, read_seen
from vidkd.data.manifest import Clip
from vidkd.data.observation import hull
from vidkd.data.whole_clip import NoFrameError, WholeClip, read_whole, seen_of
from vidkd.video.recent import Recent

log = logging.getLogger(__name__)
FORMAT = 2
PARTS = ("frames", "flow", "times")
MOST_KEYS = 65_536  # that are remembered, half a kilobyte each


class ClipCache:
    """Whole decoded clips as memory-mapped files, keyed by the file's identity and everything that decides their content.

    The operating system's page cache shares them between processes; a full cache only makes reading slower.
    `refused` counts the clips that this process could not keep for want of room.
    """

    def __init__(self, config: CacheConfig, footage: FootageConfig) -> None:
        self.folder = Path(config.folder)
        self._folder = str(self.folder)
        self.footage = footage
        self.room = Room(self.folder, int(config.max_gb * 2**30))
        self._refused: set[str] = set()
        self._keys: dict[tuple[Any, ...], str] = {}

    @property
    def refused(self) -> int:
        """Clips that did not fit."""
        return len(self._refused)

    def key(self, path: Path, clip: Clip) -> str:
        """Name of the entry: changes with the file's size or time, the interval, the sizes, the flow and the versions that computed it.

        Raises VideoError if there is no such file.
        """
        return self._key(path, clip, clip.start_s, clip.end_s)

    def _key(self, path: Path, clip: Clip, start_s: float, end_s: float | None) -> str:
        """As `key`, for these seconds of the clip's file. Keys are remembered: to make one takes longer than to read a window."""
        try:
            status = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat
        except OSError as error:
            raise VideoError(f"no such video: {path}", reason=error.strerror) from error
        folder = None if path.is_absolute() else Path.cwd()
        flow = self.footage.flow
        stored = [] if flow.source == "dis" else [file_fingerprint(str(file)) for file in stored_flow_files(str(flow.folder), clip.path)]
        file = (path, folder, status.st_size, status.st_mtime_ns, *stored)
        asked = (file, clip.index_reliable, clip.fps, start_s, end_s)
        key = self._keys.get(asked)
        if key is None:
            if len(self._keys) >= MOST_KEYS:
                self._keys.clear()
            key = self._keys[asked] = self._new_key(path, clip, (start_s, end_s), status, folder, stored)
        return key

    def _new_key(
        self,
        path: Path,
        clip: Clip,
        interval: tuple[float, float | None],
        status: os.stat_result,
        folder: Path | None,
        stored: Sequence[str],
    ) -> str:
        rule: dict[str, Any] = {
            "format": FORMAT,
            "cv2": cv2.__version__,
            "file": [_resolved(path, folder), status.st_size, status.st_mtime_ns, clip.index_reliable],
            "interval": interval,
            "size": [self.footage.transform.short_side, self.footage.transform.square, self.footage.decode_short_side],
            "flow": [dataclasses.asdict(self.footage.flow), self.footage.window.pair_step, stored],
        }
        if clip.fps is not None:
            rule["fps"] = clip.fps
        if self.footage.decoder != "auto":
            rule["decoder"] = self.footage.decoder
        return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()[:32]

    def seen(self, path: Path, clip: Clip, look: Look) -> SeenFootage:
        """What `read_seen` returns, from the cache where the clip is kept or can be; raises what `read_seen` raises."""
        seconds = hull(clip, self.footage.observe)
        key = self._key(path, clip, seconds.start_s, seconds.end_s)
        if key in self._refused:
            return read_seen(path, clip, self.footage, look)
        kept = self._seen_there(key, path, clip, look)
        if kept is not None:
            return kept
        part = dataclasses.replace(clip, start_s=seconds.start_s, end_s=seconds.end_s, onset_s=None)
        try:
            whole = self._get(key, path, part, look.flow or look.future_flow)
        except NoFrameError:
            return read_seen(path, clip, self.footage, look)  # which says what has no frame: the observed part, or the clip
        return whole.seen(clip, self.footage, look, name=str(path))

    def _seen_there(self, key: str, path: Path, clip: Clip, look: Look) -> SeenFootage | None:
        """What is seen of a clip that is kept, read by itself, or None: to map a file costs more than to read the frames of a window."""
        times = self._part(key, "times")
        if times is None:
            return None
        with contextlib.ExitStack() as opened:
            frames = _rows(self._file(key, "frames"), opened)
            flow = _rows(self._file(key, "flow"), opened) if look.flow or look.future_flow else None
            if frames is None or len(frames) != len(times):
                return None
            if (look.flow or look.future_flow) and (flow is None or len(flow) != len(times)):
                return None
            return seen_of(frames.at, None if flow is None else flow.at, times, clip, self.footage, look, name=str(path))

    def read(self, path: Path, clip: Clip, *, want_flow: bool = True) -> WholeClip:
        """The clip from the cache, decoded and stored first when it is not there. Raises what reading the file raises."""
        return self._get(self.key(path, clip), path, clip, want_flow)

    def _get(self, key: str, path: Path, clip: Clip, want_flow: bool) -> WholeClip:
        kept = self._load(key, want_flow)
        if kept is not None:
            return kept
        whole = read_whole(path, clip, self.footage, want_flow=want_flow)
        self._store(key, whole)
        return whole

    def _file(self, key: str, part: str) -> str:
        return f"{self._folder}/{key[:2]}/{key}.{part}.npy"  # a path made part by part takes as long as to open its file

    def _load(self, key: str, want_flow: bool) -> WholeClip | None:
        wanted = [part for part in PARTS if part != "flow" or want_flow]
        arrays = {part: self._part(key, part) for part in wanted}
        lengths = {None if array is None else len(array) for array in arrays.values()}
        if None in lengths or len(lengths) > 1:
            return None
        return WholeClip(arrays["frames"], arrays.get("flow"), arrays["times"])

    def _part(self, key: str, part: str) -> Any:
        """The array, or None if it is missing or torn."""
        file = self._file(key, part)
        try:
            return _whole(file) if part == "times" else _mapped(file)
        except (OSError, ValueError, EOFError):
            return None

    def _has(self, key: str, part: str, array: NDArray[Any]) -> bool:
        kept = self._part(key, part)
        return kept is not None and (kept.shape, kept.dtype) == (array.shape, array.dtype)

    def _store(self, key: str, whole: WholeClip) -> None:
        arrays: Mapping[str, NDArray[Any] | None] = {"frames": whole.frames, "flow": whole.flow, "times": whole.timestamps_s}
        missing = {part: array for part, array in arrays.items() if array is not None and not self._has(key, part, array)}
        if not self.room.take(sum(array.nbytes for array in missing.values())):
            if not self._refused:
                log.warning("cache %s is full (%.1f GiB): further clips are decoded every time", self.folder, self.room.limit_bytes / 2**30)
            self._refused.add(key)
            return
        for part, array in missing.items():
            with atomic_write(Path(self._file(key, part)), "wb") as file:
                np.save(file, array, allow_pickle=False)


class _Layout(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int


_File = tuple[str | int, ...]
"""Name, place on the disk, length and time of modification: a file that was replaced, cut or mended is another one."""

_layouts: Recent[_File, _Layout] = Recent(most_entries=65_536, most_bytes=64 * 2**20)
_times: Recent[_File, NDArray[Any]] = Recent(most_entries=65_536, most_bytes=64 * 2**20)
ENTRY_BYTES = 1024  # a name and what else is kept of a file, about


@dataclass(frozen=True)
class _Rows:
    """The entries along the first axis of the array of a .npy file that is open."""

    descriptor: int
    layout: _Layout
    name: str

    def __len__(self) -> int:
        return self.layout.shape[0]

    def at(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """A new array of the entries at these numbers; OSError where the file was cut meanwhile."""
        shape = self.layout.shape[1:]
        found = np.empty((len(numbers), *shape), self.layout.dtype)
        size = found.nbytes // len(numbers)
        for number, place in zip(numbers.tolist(), found, strict=True):
            if os.preadv(self.descriptor, [place], self.layout.offset + number * size) != size:
                raise OSError(f"{self.name} was cut while it was read")
        return found


def _rows(file: str, opened: contextlib.ExitStack) -> _Rows | None:
    """The entries of a .npy file, which stays open as long as `opened`; None if it is missing, torn or of an unusual order."""
    if not hasattr(os, "preadv"):  # Windows, where files are mapped
        return None
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        identity = _identity(file, os.fstat(descriptor))
        layout = _layouts.get(identity)
        if layout is None:
            _mapped(file)  # reads the header
            layout = _layouts.get(identity)
    except (OSError, ValueError, EOFError):
        return None
    return None if layout is None else _Rows(descriptor, layout, file)


def _mapped(file: str) -> NDArray[Any]:
    """The array of a .npy file, mapped into memory; what its header says is remembered. Raises OSError or ValueError for a torn file."""
    with open(file, "rb") as opened:
        identity = _identity(file, os.fstat(opened.fileno()))
        layout = _layouts.get(identity)
        if layout is None:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            if array.flags.c_contiguous:
                _layouts.put(identity, _Layout(array.dtype, array.shape, array.offset), ENTRY_BYTES)
            return np.asarray(array)
        content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    return np.ndarray(layout.shape, layout.dtype, content, layout.offset)


def _whole(file: str) -> NDArray[Any]:
    """The array of a small .npy file, remembered and read-only. Raises OSError or ValueError for a torn file."""
    identity = _identity(file, os.stat(file))  # noqa: PTH116
    array = _times.get(identity)
    if array is None:
        array = np.load(file, allow_pickle=False)
        array.flags.writeable = False
        _times.put(identity, array, array.nbytes + ENTRY_BYTES)
    return array


def _identity(file: str, status: os.stat_result) -> _File:
    return file, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=65_536)
def _resolved(path: Path, folder: Path | None) -> str:
    """Where `path` leads, seen from `folder` if it is relative."""
    return str((folder / path if folder else path).resolve())


class Room:
    """How much of a folder's allowance is taken, counted together by all processes that write there.

    What lies there is measured once; from then on every process appends what it takes to a ledger that all read, so the sum stays
    under the limit without a lock. A process that starts while others are writing may miss the one entry that each has in the making.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._ledger = folder / "taken.txt"
        self._read_to = 0
        self._used: int | None = None

    def used(self) -> int:
        """Bytes taken so far."""
        if self._used is None:
            self._read_to = self._ledger.stat().st_size if self._ledger.exists() else 0
            self._used = self._measure()
        if self._ledger.exists():
            with self._ledger.open("rb") as file:
                file.seek(self._read_to)
                whole_lines = file.read().rpartition(b"\n")[0]
            self._used += sum(int(line) for line in whole_lines.split())
            self._read_to += len(whole_lines) + 1 if whole_lines else 0
        return self._used

    def take(self, size: int) -> bool:
        """Take `size` bytes if they fit; never more than the limit over all processes, though near it two may both be refused."""
        if self.used() + size > self.limit_bytes:
            return False
        self._append(size)
        if self.used() > self.limit_bytes:
            self._append(-size)
            return False
        return True

    def _append(self, size: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._ledger.open("ab") as file:
            file.write(f"{size}\n".encode())

    def _measure(self) -> int:
        total = 0
        for file in self.folder.glob("*/*.npy"):
            with contextlib.suppress(FileNotFoundError):
                total += file.stat().st_size
        return total
