"""A budget of oracle calls that holds exactly, wherever along the stream one counts."""

import math
from collections.abc import Mapping
from typing import Any

from vidkd.base.errors import ConfigError


class CallBudget:
    """At most `calls` calls in any `window` frames that follow each other; `calls` in each whole block of `window` frames can be spent.

    Blocks are counted from the start of the stream. Calls that are saved up fall due: the last of a block at the latest on its last frame,
    each before it `gap` frames earlier, gap being half the even spacing of calls, rounded down. Whoever calls whenever `due` says so (and
    else as he likes, where `may_call` allows) has spent exactly `calls` at the end of every block: a due call is always allowed, since the
    block before kept the same dates.
    Raises ConfigError unless 1 <= calls <= window.
    """

    def __init__(self, calls: int, window: int) -> None:
        if not 1 <= calls <= window:
            raise ConfigError(f"a budget of {calls} calls in {window} frames is none", hint="at least 1 call, at most one a frame")
        self.calls, self.window = calls, window
        self.gap = max(1, window // (2 * calls))
        self.position = 0
        self._recent: list[int] = []
        self._in_block = 0

    @classmethod
    def of_share(cls, share: float, *, window: int = 200) -> "CallBudget":
        """The budget of a share of the frames, in (0, 1], rounded down to whole calls a window, but at least one.

        A share that is less than one call a window makes the window longer. Raises ConfigError for a share outside (0, 1].
        """
        if not 0 < share <= 1:
            raise ConfigError(f"the share of frames sent to the oracle must lie in (0, 1], not {share}")
        calls = int(share * window + 1e-9)
        return cls(calls, window) if calls else cls(1, math.ceil(1 / share - 1e-9))

    @property
    def rate(self) -> float:
        """Calls a frame, in (0, 1]."""
        return self.calls / self.window

    @property
    def calls_left(self) -> int:
        """Calls that this block has not spent."""
        return self.calls - self._in_block

    @property
    def frames_left(self) -> int:
        """Frames of this block from the present one on."""
        return self.window - self.position % self.window

    @property
    def may_call(self) -> bool:
        """Whether a call on the present frame keeps every window within the budget."""
        return sum(index > self.position - self.window for index in self._recent) < self.calls

    @property
    def due(self) -> bool:
        """Whether a call must be made now for the block to be spent in full, with `gap` frames between the calls that are left."""
        return self.calls_left > 0 and self.frames_left <= 1 + (self.calls_left - 1) * self.gap

    @property
    def rested(self) -> bool:
        """Whether `gap` frames have gone by since the last call, if there was one."""
        return not self._recent or self.position - self._recent[-1] >= self.gap

    def advance(self, called: bool) -> None:
        """Go on to the next frame, after a call on the present one or none. Raises ValueError for a call that is not allowed."""
        if called and not self.may_call:
            raise ValueError(f"a call at frame {self.position} would exceed {self.calls} calls in {self.window} frames")
        if called:
            self._recent = [index for index in self._recent if index > self.position - self.window] + [self.position]
            self._in_block += 1
        self.position += 1
        if self.position % self.window == 0:
            self._in_block = 0

    def state(self) -> dict[str, Any]:
        """Where the budget stands, as plain values."""
        return {"calls": self.calls, "window": self.window, "position": self.position, "recent": self._recent, "in_block": self._in_block}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave. Raises ConfigError if that was another budget."""
        if (state["calls"], state["window"]) != (self.calls, self.window):
            raise ConfigError(
                f"a budget of {self.calls} calls in {self.window} frames cannot go on from one of {state['calls']} in {state['window']}"
            )
        self.position, self._recent, self._in_block = state["position"], list(state["recent"]), state["in_block"]
