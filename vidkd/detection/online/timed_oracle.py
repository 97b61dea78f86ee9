"""An oracle that is not waited for longer than a time."""

import queue
import threading

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.detection.online.oracle import Answer, Oracle


class _Call:
    """A frame on its way to the oracle, and what came of it once `done` is set."""

    def __init__(self, frame: NDArray[np.uint8]) -> None:
        self.frame = frame
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.done = threading.Event()


class TimedOracle:
    """Another oracle, asked in a thread of its own: an answer later than timeout_s is dropped when it comes, and TimeoutError is raised.

    Until it has come the oracle is not asked again, and every call raises at once; one that hangs for good is never asked again. What the
    oracle raises is raised. A stream in which nothing is late repeats as with the oracle itself. Raises ConfigError for a timeout_s that is
    not above 0.
    """

    def __init__(self, oracle: Oracle, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise ConfigError(f"timeout_s must be above 0, not {timeout_s}")
        self.oracle, self.timeout_s = oracle, timeout_s
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._last: _Call | None = None
        # a daemon: an oracle that hangs for good must not keep the process from ending
        self._thread = threading.Thread(target=self._work, name="oracle", daemon=True)
        self._thread.start()

    @property
    def gives_heads(self) -> bool:
        """As `Oracle`."""
        return self.oracle.gives_heads

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:
        """As `Oracle`."""
        if self._last is not None and not self._last.done.is_set():
            raise TimeoutError("the oracle has not come back from an earlier call")
        call = self._last = _Call(frame.copy())
        self._calls.put(call)
        if not call.done.wait(self.timeout_s):
            raise TimeoutError(f"no answer within {self.timeout_s:g} s")
        if call.error is not None:
            raise call.error
        assert call.answer is not None
        return call.answer

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            try:
                call.answer = self.oracle(call.frame)
            except Exception as error:  # whatever library runs the oracle; raised to who asked
                call.error = error
            call.done.set()
