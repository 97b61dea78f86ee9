"""Which frames a clip's views see: the one place where a sample's time window is decided."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError

SAME_S = 1e-6
"""Times nearer to each other than this are the same: lists hold them to six decimals, and their sums are rounded too."""


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How `frames` frames are taken from a clip.

    Args:
        frames: frames a view sees.
        stride: decoded frames between two of them (`dense` only).
        rule: `dense` takes a run of frames `stride` apart; `uniform` takes one frame from each of `frames` equal parts of the clip.
        flow_step: decoded frames from a sampled frame to the one that its flow points at; by default `stride` (dense) or 1 (uniform).
        short_clip: a clip shorter than the window is an `error`, or its last frame is held (`hold`: still frames, zero flow).
    """

    frames: int = 8
    stride: int = 4
    rule: Literal["dense", "uniform"] = "dense"
    flow_step: int | None = None
    short_clip: Literal["error", "hold"] = "error"

    def __post_init__(self) -> None:
        for key in ("frames", "stride"):
            if getattr(self, key) < 1:
                raise DataError(f"window.{key} must be at least 1, not {getattr(self, key)}")
        if self.flow_step is not None and self.flow_step < 1:
            raise DataError(f"window.flow_step must be at least 1, not {self.flow_step}")

    @property
    def pair_step(self) -> int:
        """Decoded frames between the two frames of a flow pair."""
        return self.flow_step or (self.stride if self.rule == "dense" else 1)

    @property
    def sampled_span(self) -> int:
        """Decoded frames from the first sampled one to the last, both counted; at least, with `uniform`."""
        return (self.frames - 1) * self.stride + 1 if self.rule == "dense" else self.frames

    @property
    def span(self) -> int:
        """Decoded frames that the window reaches over, flow targets included."""
        return self.sampled_span + self.pair_step


@dataclass(frozen=True)
class Window:
    """Frame indices of one sample: `frames[t]` is seen, and the flow at t points from `frames[t]` to `targets[t]`; both int64 (T,)."""

    frames: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def needed(self) -> NDArray[np.int64]:
        """Every index to decode, sorted, each once."""
        return np.unique(np.concatenate([self.frames, self.targets]))

    @property
    def held(self) -> bool:
        """Whether the clip, or the part of it, was so short that frames are repeated."""
        return bool((np.diff(self.frames) == 0).any())


def frames_inside(timestamps_s: NDArray[np.float64], start_s: float, end_s: float | None, *, closed: bool = False) -> NDArray[np.int64]:
    """Indices of the frames presented in [start_s, end_s), by decoded timestamp; all from start_s on when end_s is None.

    closed: a frame at end_s belongs to it. Times that differ by less than `SAME_S` are the same, at either end.
    """
    inside = timestamps_s >= start_s - SAME_S
    if end_s is not None:
        inside &= timestamps_s <= end_s + SAME_S if closed else timestamps_s < end_s - SAME_S
    return np.flatnonzero(inside).astype(np.int64)


def choose_window(
    timestamps_s: NDArray[np.float64],
    config: WindowConfig,
    *,
    position: float,
    start_s: float = 0.0,
    end_s: float | None = None,
    name: str = "clip",
) -> Window:
    """The frame indices of one sample.

    timestamps_s: (N,) presentation time of every decoded frame of the file, ascending. start_s, end_s: the clip's interval.
    position: in [0, 1], where the window lies among all that fit (0 first, 1 last).
    Raises DataError if the clip has no frames, or fewer than the window's span and `short_clip` is "error".
    """
    inside = frames_inside(timestamps_s, start_s, end_s)
    if len(inside) == 0:
        raise DataError(f"no frame in the interval of {name}", interval_s=f"[{start_s}, {end_s})", frames=len(timestamps_s))
    check_long_enough(len(inside), config, name)
    steps = spread(len(inside), config, position)
    last = len(inside) - 1
    return Window(inside[np.minimum(steps, last)], inside[np.minimum(steps + config.pair_step, last)])


def check_long_enough(available: int, config: WindowConfig, name: str, *, needed: int | None = None) -> None:
    """Raise DataError if fewer frames are there than the window reaches over (`needed`) and `short_clip` is "error"."""
    needed = config.span if needed is None else needed
    if available < needed and config.short_clip == "error":
        raise DataError(
            f"{name} is shorter than the window",
            frames=available,
            needed=f"{needed} (window.frames={config.frames}, window.stride={config.stride})",
            hint="a smaller window.stride or window.frames, or window.short_clip=hold",
        )


def spread(available: int, config: WindowConfig, position: float, *, reach: int | None = None) -> NDArray[np.int64]:
    """Numbers (T,) of the window's frames among `available` ones; those beyond the last are to be held at it.

    reach: frames after a sampled one that must be there too, by default the flow pair's.
    """
    reach = config.pair_step if reach is None else reach
    if config.rule == "uniform":
        inner = min(position, 1 - 1e-9)
        usable = max(available - reach, 1)
        return np.floor((np.arange(config.frames) + inner) * usable / config.frames).astype(np.int64)
    return round(position * max(available - config.sampled_span - reach, 0)) + config.stride * np.arange(config.frames, dtype=np.int64)
