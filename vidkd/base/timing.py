"""How long a thing takes: repeated measurement of one call, and shares of a loop's time."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds one call takes. `what` says what is included; `labels` under which conditions (device, dtype, batch, ...)."""

    what: str
    median_s: float
    p95_s: float
    min_s: float
    n: int
    warmup: int
    labels: Mapping[str, str | int | float] = field(default_factory=dict)

    def as_row(self) -> dict[str, str | int | float]:
        """A flat row for JSON or a table; times in milliseconds."""
        times = {"median_ms": self.median_s * 1e3, "p95_ms": self.p95_s * 1e3, "min_ms": self.min_s * 1e3}
        return {"what": self.what, **times, "n": self.n, "warmup": self.warmup, **self.labels}

    def __str__(self) -> str:
        times = f"median {_milliseconds(self.median_s)}, p95 {_milliseconds(self.p95_s)}, min {_milliseconds(self.min_s)} ms"
        labels = "".join(f", {name} {value}" for name, value in self.labels.items())
        return f"{self.what}: {times} (n {self.n} after {self.warmup} warm-up{labels})"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def measure(
    function: Callable[[], object],
    *,
    what: str,
    warmup: int = 3,
    repeats: int = 20,
    synchronise: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    labels: Mapping[str, str | int | float] | None = None,
) -> Timing:
    """Call `function` `warmup` times untimed and `repeats` times timed, each call on its own.

    what: what one call includes ("forward of one clip, without decoding").
    synchronise: waits until the device is idle (`torch.cuda.synchronize`); called before each start, and before each end inside the
        time, so that work queued on the device counts for the call that queued it.
    Raises ValueError if repeats < 1 or warmup < 0.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"measure needs repeats >= 1 and warmup >= 0, got {repeats} and {warmup}")
    for _ in range(warmup):
        function()
    seconds = [timed(function, synchronise=synchronise, clock=clock) for _ in range(repeats)]
    return summarise(seconds, what=what, warmup=warmup, labels=labels)


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


def summarise(seconds: Sequence[float], *, what: str, warmup: int = 0, labels: Mapping[str, str | int | float] | None = None) -> Timing:
    """The Timing of calls measured elsewhere, each in seconds. Raises ValueError if there are none."""
    if not seconds:
        raise ValueError("no times to summarise")
    return Timing(
        what=what,
        median_s=statistics.median(seconds),
        p95_s=percentile(seconds, 95),
        min_s=min(seconds),
        n=len(seconds),
        warmup=warmup,
        labels=dict(labels or {}),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Percentile in [0, 100] with linear interpolation between the sorted values, as `numpy.percentile` has it."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


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
        """Forget all times and start the total anew."""
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
