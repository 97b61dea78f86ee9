"""Progress of a long loop: a bar with the time left on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Item = TypeVar("Item")
FIRST_S = 5.0


class Progress:
    """Shows how far a loop has come: `with Progress(400, "train") as progress: progress.step(loss=1.2)`.

    total: steps in all, None if unknown. what: what the lines are called; "" writes none. done: steps made before (a resumed run); they do
    not count in the speed.
    stream: where to write, by default stderr. A terminal gets a bar; anything else a line every `every_steps` steps or `every_s` seconds,
    whichever comes first, and one at the end; in the beginning more often, a tenth of the time so far or FIRST_S apart. Only rank 0 writes.
    The first step does not count in the speed: it holds the start of loaders and the warm-up of libraries.
    filling: the first so many steps fill a cache: until then the time left is said to be at most that, and the speed later is without them.
    """

    def __init__(
        self,
        total: int | None,
        what: str,
        *,
        done: int = 0,
        filling: int = 0,
        rank: int = 0,
        stream: TextIO | None = None,
        every_steps: int = 50,
        every_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.what, self.done, self._filling = total, what, done, filling
        self._stream = stream if stream is not None else sys.stderr
        self._shows = rank == 0 and what != ""
        self._every_steps, self._every_s, self._clock = every_steps, every_s, clock
        self._first: int | None = None  # steps made when the first one, or the cache's last, had ended, at `_start`
        self._start = self._entered = clock()
        self._line_done, self._line_time = done, self._start
        self._bar: RichProgress | None = None
        self._values: dict[str, object] = {}

    def __enter__(self) -> "Progress":
        self._entered = self._line_time = self._clock()
        if self._shows and self._stream.isatty():
            self._bar = _bar(self._stream)
            self._bar.add_task(self.what, total=self.total, completed=self.done, values="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._shows and self._line_done != self.done:
            self._write_line()

    def step(self, steps: int = 1, **values: object) -> None:
        """Count `steps` more; `values` (loss=..., top1=...) are shown until given again."""
        self.done += steps
        self._values.update(values)
        if self._first is None or self.done - steps < self._filling <= self.done:
            self._first, self._start = self.done, self._clock()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, values=self._text())
        elif self._shows and self._is_due():
            self._write_line()

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Hand on `items`, a step each; enters and leaves by itself."""
        with self:
            for item in items:
                yield item
                self.step()

    def left_s(self) -> float | None:
        """Seconds left at the speed since the first step, or since the cache was filled; 0 after the last.

        None before the next step, or without a total.
        """
        made = 0 if self._first is None else self.done - self._first
        if self.total is None or (made <= 0 and self.done < self.total):
            return None
        if self.done >= self.total:
            return 0.0
        return (self._clock() - self._start) / made * max(0, self.total - self.done)

    def _is_due(self) -> bool:
        now = self._clock()
        every_s = min(self._every_s, max(FIRST_S, (now - self._entered) / 10))
        return self.done - self._line_done >= self._every_steps or now - self._line_time >= every_s

    def _write_line(self) -> None:
        self._line_done, self._line_time = self.done, self._clock()
        of_total = f"/{self.total}" if self.total is not None else ""
        left = self.left_s()
        left_text = "" if left is None else f"{duration(left)} left"
        if left_text and self.done < self._filling:
            left_text = f"at most {left_text} (the first epoch fills the cache)"
        parts = [f"{self.what} {self.done}{of_total}", self._text(), left_text]
        self._stream.write("  ".join(part for part in parts if part) + "\n")
        self._stream.flush()

    def _text(self) -> str:
        return "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in self._values.items())


def duration(seconds: float) -> str:
    """Seconds as 45s, 3m20s or 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _bar(stream: TextIO) -> "RichProgress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
    ]
    return Progress(*columns, console=Console(file=stream))
