"""An iterator that works ahead in a thread of its own, so that who makes items and who takes them are busy at the same time."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
LOOK_UP_S = 0.1  # how often a thread that waits for room looks whether it is still wanted


class _End:
    """What comes after the last item: the error that ended the items, if one did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Ahead(Generic[Item]):
    """Hands on `items` in order, of which up to `depth` are made before they are asked for; a context manager.

    An error that the items raise is raised to who takes them, after all items before it. Leaving the context ends the thread.
    made_s: seconds that the thread spent making items. waited_s: seconds that the taker waited for one.
    Raises ValueError for depth < 1.
    """

    def __init__(self, items: Iterable[Item], *, depth: int, clock: Callable[[], float] = time.perf_counter) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self.made_s = self.waited_s = 0.0
        self._items, self._clock = iter(items), clock
        self._queue: queue.Queue[Item | _End] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Ahead[Item]":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        while True:
            start = self._clock()
            item = self._queue.get()
            self.waited_s += self._clock() - start
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

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
