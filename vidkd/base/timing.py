"""How long a thing takes: repeated measurement of one call, and shares of a loop's time."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")


class Timing(NamedTuple):
    """Seconds that one call takes, of n calls: the median and the 95th percentile."""

    median_s: float
    p95_s: float
    n: int


def measure(
    function: Callable[[], object],
    *,
    warmup: int = 3,
    repeats: int = 20,
    synchronise: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Call `function` `warmup` times untimed and `repeats` times timed, each call on its own.

    synchronise: waits until the device is idle (`torch.cuda.synchronize`); called before each start, and before each end inside the
        time, so that work queued on the device counts for the call that queued it.
    """
    for _ in range(warmup):
        function()
    seconds = [timed(function, synchronise=synchronise, clock=clock) for _ in range(repeats)]
    median_s, p95_s = np.percentile(seconds, (50, 95))
    return Timing(float(median_s), float(p95_s), repeats)


def timed(
    function: Callable[[], object],
    *,
    synchronise: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds that one call takes; synchronise as in `measure`."""
    wait = synchronise or _nothing
    wait()
    start = clock()
    function()
    wait()
    return clock() - start


def _nothing() -> None:
    """Devices that work while one waits need no synchronising."""


class Stopwatch:
    """Shares of a loop's time, by name: which part of a step waits for data, which computes.

    It reads the clock of the host: work that a device does later is counted where the host next waits for the device.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._running: str | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all times and start the total again."""
        self._seconds: dict[str, float] = {}
        self._start = self._clock()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`. Parts do not nest (RuntimeError): the shares would count time twice."""
        if self._running is not None:
            raise RuntimeError(f"part '{name}' begins inside part '{self._running}'")
        self._running, start = name, self._clock()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + self._clock() - start
            self._running = None

    def waiting(self, items: Iterable[Item], name: str = "data") -> Iterator[Item]:
        """Hand on `items`; the time spent waiting for each next one is added to `name`."""
        source = iter(items)
        while True:
            try:
                with self.part(name):
                    item = next(source)
            except StopIteration:
                return
            yield item

    def seconds(self) -> dict[str, float]:
        """Seconds of each part, and the rest of the time since the start as "other"."""
        return {**self._seconds, "other": max(0.0, self.total_s() - sum(self._seconds.values()))}

    def shares(self) -> dict[str, float]:
        """Share of each part and of "other" in the time since the start; they sum to one (all zero if no time has passed)."""
        seconds = self.seconds()
        total = sum(seconds.values())
        return {name: value / total if total > 0 else 0.0 for name, value in seconds.items()}

    def total_s(self) -> float:
        """Seconds since the start or the last reset."""
        return self._clock() - self._start
