"""How long one call takes: by the clock of the host, or between two events on a GPU."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from vidkd.base.timing import timed


class Clock(Protocol):
    """Measures calls. `name` says how, for the record."""

    name: str

    def seconds(self, function: Callable[[], object]) -> float:
        """Seconds that one call takes."""
        ...


class HostClock:
    """The clock of the host, for models whose answer is there when the call returns."""

    name = "host clock"

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock

    def seconds(self, function: Callable[[], object]) -> float:
        """See `Clock`."""
        return timed(function, clock=self._clock)


class CudaClock:
    """Events before and after the call on the current stream of the GPU, which is idle before the first.

    What the host does in between counts too: the second event is recorded after the call has returned.
    cuda: `torch.cuda`, or what stands for it.
    """

    name = "CUDA events"

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda

    def seconds(self, function: Callable[[], object]) -> float:
        """See `Clock`."""
        start, end = self._cuda.Event(enable_timing=True), self._cuda.Event(enable_timing=True)
        self._cuda.synchronize()
        start.record()
        function()
        end.record()
        self._cuda.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def clock_of(device: str) -> Clock:
    """The clock for models on a device: events on CUDA, else the host's."""
    if device != "cuda":
        return HostClock()
    import torch

    return CudaClock(torch.cuda)
