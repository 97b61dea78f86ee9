"""An iterator that works ahead in a thread of its own, so that who makes items and who takes them are busy at the same time."""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
LOOK_UP_S = 0.1  # how often a thread that waits, for room or for an item, looks whether it is still wanted


class _End:
    """What comes after the last item: the error that ended the items, if one did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Prefetcher(Generic[Item]):
    """Hands on `items` in order, of which up to `depth` are made before they are asked for; a context manager.

    An error that the items raise is raised to who takes them, after all items before it. Leaving the context ends the thread, as soon as
    the item in the making is made.
    made_s: seconds that the thread spent making items. waited_s: seconds that the taker waited for one.
    """

    def __init__(self, items: Iterable[Item], *, depth: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.made_s = self.waited_s = 0.0
        self._items, self._clock = iter(items), clock
        self._queue: queue.Queue[Item | _End] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Prefetcher[Item]":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Make no more items, and end for who takes them, in whatever thread it waits for one."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Item]:
        while not isinstance(item := self._take(math.inf), _End):
            yield item

    def within(self, wait_s: float) -> Iterator[Item | None]:
        """The items, and None whenever none came for `wait_s` seconds."""
        while True:
            try:
                item = self._take(wait_s)
            except queue.Empty:
                yield None
                continue
            if isinstance(item, _End):
                return
            yield item

    def _take(self, wait_s: float) -> Item | _End:
        """The next item, or the end if it was stopped. Raises queue.Empty if none came in time, and the error that ended the items."""
        start = self._clock()
        item: Item | _End = _End(None)
        try:
            while not self._stopped.is_set():
                left_s = wait_s - (self._clock() - start)
                try:
                    item = self._queue.get(timeout=max(0.0, min(LOOK_UP_S, left_s)))
                    break
                except queue.Empty:
                    if left_s <= LOOK_UP_S:
                        raise
        finally:
            self.waited_s += self._clock() - start
        if isinstance(item, _End) and item.error is not None:
            raise item.error
        return item

    def _run(self) -> None:
        ending: BaseException | None = None
        try:
            while not self._stopped.is_set():
                start = self._clock()
                item = next(self._items)
                self.made_s += self._clock() - start
                self._put(item)
        except StopIteration:
            pass
        except BaseException as error:
            ending = error
        finally:
            if isinstance(self._items, Generator):
                self._items.close()  # what it holds open belongs to this thread
            self._put(_End(ending))

    def _put(self, item: Item | _End) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=LOOK_UP_S)
                return
