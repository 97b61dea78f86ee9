"""A cache of what a process used last, bounded in number and bytes."""

import threading
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class LRUCache(Generic[Key, Value]):
    """Values that were found out and will be asked for again; the one that was not asked for longest gives way.

    most_entries, most_bytes: what is kept, at most. A value that is larger than that by itself is not kept.
    """

    def __init__(self, *, most_entries: int, most_bytes: int) -> None:
        self._most_entries, self._most_bytes = most_entries, most_bytes
        self._kept: dict[Key, tuple[Value, int]] = {}  # in the order of their last use
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Value | None:
        """The value of this key if it is still there."""
        with self._lock:
            entry = self._kept.pop(key, None)
            if entry is None:
                return None
            self._kept[key] = entry
            return entry[0]

    def put(self, key: Key, value: Value, size_bytes: int) -> None:
        """Keep a value that takes up about `size_bytes`, in place of what the key had before."""
        with self._lock:
            self._bytes -= self._kept.pop(key, (None, 0))[1]
            if size_bytes > self._most_bytes:
                return
            self._kept[key] = (value, size_bytes)
            self._bytes += size_bytes
            while len(self._kept) > self._most_entries or self._bytes > self._most_bytes:
                self._bytes -= self._kept.pop(next(iter(self._kept)))[1]
