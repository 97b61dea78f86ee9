"""Decoded clips on a fast disk: for small models decoding, not the network, is what a step waits for."""

import contextlib
import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.files import atomic_write
from vidkd.data.footage import FootageConfig, WholeClip, read_whole
from vidkd.data.manifest import Clip

log = logging.getLogger(__name__)
FORMAT = 1
PARTS = ("frames", "flow", "times")


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The decoded-clip cache.

    Args:
        enabled: keep decoded clips (all frames at working size, flow in half precision).
        folder: where; entries are plain .npy files, safe to delete at any time.
        max_gb: clips that would not fit under this many GiB are decoded every time, and counted in the log.
    """

    enabled: bool = False
    folder: str = "runs/cache"
    max_gb: float = 20.0


class ClipCache:
    """Whole decoded clips as memory-mapped files, keyed by the file's identity and everything that decides their content.

    The operating system's page cache shares them between processes; a full cache only makes reading slower.
    """

    def __init__(self, config: CacheConfig, footage: FootageConfig) -> None:
        self.folder = Path(config.folder)
        self.limit_bytes = int(config.max_gb * 2**30)
        self.footage = footage
        self.refused = 0
        self._used_bytes: int | None = None

    def key(self, path: Path, clip: Clip) -> str:
        """Name of the entry: changes with the file's size or time, the interval, the sizes, the flow and the versions that computed it."""
        status = path.stat()
        rule = {
            "format": FORMAT,
            "cv2": cv2.__version__,
            "file": [str(path.resolve()), status.st_size, status.st_mtime_ns],
            "interval": [clip.start_s, clip.end_s],
            "size": [self.footage.transform.short_side, self.footage.transform.square, self.footage.decode_short_side],
            "flow": [dataclasses.asdict(self.footage.flow), self.footage.window.pair_step],
        }
        return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()[:32]

    def read(self, path: Path, clip: Clip) -> WholeClip:
        """The clip from the cache, decoded and stored first when it is not there. Raises what reading the file raises."""
        key = self.key(path, clip)
        kept = self._load(key)
        if kept is not None:
            return kept
        whole = read_whole(path, clip, self.footage)
        self._store(key, whole)
        return whole

    def _files(self, key: str) -> dict[str, Path]:
        return {part: self.folder / key[:2] / f"{key}.{part}.npy" for part in PARTS}

    def _load(self, key: str) -> WholeClip | None:
        files = self._files(key)
        try:
            frames, flow, times = (np.load(files[part], mmap_mode="r", allow_pickle=False) for part in PARTS)
        except (FileNotFoundError, ValueError):
            return None
        return WholeClip(frames, flow, np.asarray(times))

    def _store(self, key: str, whole: WholeClip) -> None:
        arrays: dict[str, NDArray[Any]] = {"frames": whole.frames, "flow": whole.flow, "times": whole.timestamps_s}
        size = sum(array.nbytes for array in arrays.values())
        if self._used() + size > self.limit_bytes:
            if self.refused == 0:
                log.warning("cache %s is full (%.1f GiB): further clips are decoded every time", self.folder, self.limit_bytes / 2**30)
            self.refused += 1
            return
        for part, array in arrays.items():
            with atomic_write(self._files(key)[part], "wb") as file:
                np.save(file, array, allow_pickle=False)
        self._used_bytes = self._used() + size

    def _used(self) -> int:
        if self._used_bytes is None:
            self._used_bytes = 0
            for file in self.folder.glob("*/*.npy"):
                with contextlib.suppress(FileNotFoundError):
                    self._used_bytes += file.stat().st_size
        return self._used_bytes
