"""Ctrl-C: the process that trains ends its step and saves; those that load its data know nothing of it."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

log = logging.getLogger(__name__)


class Interrupt:
    """Whether the user asked to stop. The first Ctrl-C asks, a second one raises KeyboardInterrupt at once.

    finishing: what is done before it stops, in words for the user.
    """

    def __init__(self, finishing: str = "finishing the step and saving") -> None:
        self.asked = False
        self._finishing = finishing
        self._at_once = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside the block, where there is nothing to save, the first Ctrl-C raises KeyboardInterrupt."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Ctrl-C asks inside the block, and does what it did before after it. Outside the main thread nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _ask(self, *_: object) -> None:
        if self.asked or self._at_once:
            raise KeyboardInterrupt
        self.asked = True
        log.warning("%s; press Ctrl-C again to stop at once", self._finishing)


def start(loader: Any) -> Iterator[Any]:
    """Iterate over a DataLoader of torch, which is not imported here; its processes, where it has any, ignore Ctrl-C."""
    if loader.num_workers == 0:
        return iter(loader)
    with block_sigint_in_workers():
        return iter(loader)


@contextlib.contextmanager
def block_sigint_in_workers() -> Iterator[None]:
    """Processes that start inside the block never see Ctrl-C, which a terminal sends to all; for this one it waits until the end of it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started by the first of multiprocessing's processes, it would take the block away
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
