"""What the student may see and what its teacher sees: the one place that decides a sample's time window."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.data.manifest import Clip

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
    """Frame indices of one sample: `frames[t]` is seen, and the flow at t points from `frames[t]` to `targets[t]`; both int64 (T,).

    part: the first and the last index of what may be seen, where stacks of flow are taken from it.
    """

    frames: NDArray[np.int64]
    targets: NDArray[np.int64]
    part: tuple[int, int] = (0, 0)

    @property
    def needed(self) -> NDArray[np.int64]:
        """Every index to decode, sorted, each once."""
        return np.unique(np.concatenate([self.frames, self.targets]))

    @property
    def held(self) -> bool:
        """Whether the clip, or the part of it, was so short that frames are repeated."""
        return bool((np.diff(self.frames) == 0).any())

    def pairs(self, stack: int, step: int, name: str) -> "Window":
        """`stack` pairs of frames for each frame, one frame's after another's: they follow each other from the frame on, `step` apart.

        Where fewer are left in the part they are its last ones; those of a frame that is held are each of a frame with itself.
        Raises DataError if the part has fewer frames than one stack needs. A stack of one is the window itself.
        """
        if stack == 1:
            return self
        (first, last), reach = self.part, stack * step
        if last - first < reach:
            raise DataError(
                f"{name} is shorter than a stack of flow",
                frames=last - first + 1,
                needed=f"{reach + 1} (data.flow.stack={stack}, {step} frames from one to the next)",
                hint="a smaller data.flow.stack or data.window.flow_step, or leave the clip out of the manifest",
            )
        frames = np.minimum(self.frames, last - reach)[:, None] + step * np.arange(stack)
        held = (self.targets == self.frames)[:, None]
        return Window(frames.ravel(), np.where(held, frames, frames + step).ravel())


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
    return Window(inside[np.minimum(steps, last)], inside[np.minimum(steps + config.pair_step, last)], (int(inside[0]), int(inside[last])))


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


class UnobservableError(DataError):
    """A clip of which nothing can be observed: nothing was shown before its gap, or no frame lies in its observed part."""


@dataclass(frozen=True, kw_only=True)
class ObserveConfig:
    """Which part of a clip is observed.

    Args:
        protocol: `whole`: student and teacher see the same window of the whole clip. `early`: the student sees the first part of a trimmed
            clip, the teacher all of it. `anticipation`: a clip is an action in an untrimmed video; the student sees what ends `gap_s`
            before it starts, the teacher sees the action.
        fractions: observed shares of the clip (`early`), each in (0, 1]. Training draws one for every sample, evaluation judges each.
        gap_s: seconds from the end of what is observed to the start of the action (`anticipation`).
        observe_s: seconds that are observed before the gap (`anticipation`); none is all since the beginning of the file.
        teacher_sees: in `early` the `whole` clip, the `rest` that the student does not see (at fraction 1, where nothing is left, the whole
            clip), or the `same` part as the student, for a teacher that has another view of it.
        teacher_frames: frames of the teacher's window, by default as many as the student's.
    """

    protocol: Literal["whole", "early", "anticipation"] = "whole"
    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    gap_s: float = 1.0
    observe_s: float | None = 2.0
    teacher_sees: Literal["whole", "rest", "same"] = "whole"
    teacher_frames: int | None = None

    def __post_init__(self) -> None:
        named = ", ".join(f"{fraction:g}" for fraction in self.fractions)
        if not self.fractions or list(self.fractions) != sorted({fraction for fraction in self.fractions if 0 < fraction <= 1}):
            hint = "data.observe.fractions: [0.2, 0.5, 1.0]"
            raise DataError("data.observe.fractions must rise, each named once and in (0, 1]", found=named or "none", hint=hint)
        if not 0 <= self.gap_s < math.inf:
            raise DataError(f"data.observe.gap_s must be 0 or more seconds, not {self.gap_s:g}")
        if self.observe_s is not None and not 0 < self.observe_s < math.inf:
            raise DataError(f"data.observe.observe_s must be above 0 seconds, or none, not {self.observe_s:g}")
        if self.teacher_frames is not None and self.teacher_frames < 1:
            raise DataError(f"data.observe.teacher_frames must be at least 1, not {self.teacher_frames}")

    @property
    def judged_fractions(self) -> tuple[float | None, ...]:
        """The observed fractions at which a model is judged one by one; (None,) where the protocol knows none."""
        return self.fractions if self.protocol == "early" else (None,)

    def judged_frames(self, window: WindowConfig) -> dict[float, int]:
        """The number of the window's last frame within each fraction, for a network that answers after every frame of whole clips.

        Frame t of T stands for the share (t + 1) / T. Raises DataError for a window that is not spread over the clip, or a fraction
        within which there is no frame.
        """
        found = {fraction: math.floor(fraction * window.frames + 1e-6) - 1 for fraction in self.fractions}
        if window.rule != "uniform":
            raise DataError(
                "answers after every frame are judged at shares of the clip, and a dense window has none",
                hint="data.window.rule: uniform, or model.temporal.answers: clip",
            )
        if found[self.fractions[0]] < 0:
            raise DataError(
                f"of {window.frames} frames spread over a clip none lies in its first {100 * self.fractions[0]:g} %",
                hint=f"data.window.frames: {math.ceil(1 / self.fractions[0] - 1e-6)}, or larger data.observe.fractions",
            )
        return found


@dataclass(frozen=True)
class Seconds:
    """An interval of a file: from `start_s` to `end_s`, which belongs to it if `closed`; None is the end of the file."""

    start_s: float
    end_s: float | None
    closed: bool = False

    def frames(self, timestamps_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Indices of the frames whose timestamps lie in it, as `frames_inside`."""
        return frames_inside(timestamps_s, self.start_s, self.end_s, closed=self.closed)


def seconds_seen(clip: Clip, config: ObserveConfig, *, end_s: float, fraction: float | None = None) -> tuple[Seconds, Seconds]:
    """What (the student, the teacher) sees of a clip under `early` and `anticipation`.

    end_s: where the clip ends, for one that ends with its file. fraction: observed share (`early`).
    Raises DataError for a fraction that is missing or outside (0, 1], UnobservableError for an action that starts before its gap is over.
    """
    whole = Seconds(clip.start_s, clip.end_s)
    if config.protocol == "early":
        if fraction is None or not 0 < fraction <= 1:
            raise DataError(f"early recognition needs an observed fraction in (0, 1], not {fraction}", clip=clip.path)
        cut_s = clip.start_s + fraction * (end_s - clip.start_s)
        observed = whole if fraction == 1 else Seconds(clip.start_s, cut_s)
        if config.teacher_sees == "same":
            return observed, observed
        rest = Seconds(cut_s, clip.end_s)
        return observed, rest if config.teacher_sees == "rest" and fraction < 1 else whole
    if config.protocol == "anticipation":
        if not is_observable(clip, config):
            raise UnobservableError(
                f"nothing can be observed {config.gap_s:g} s before an action that starts at {clip.start_s:g} s", clip=clip.path
            )
        last_s = clip.start_s - config.gap_s
        first_s = 0.0 if config.observe_s is None else max(0.0, last_s - config.observe_s)
        return Seconds(first_s, last_s, closed=config.gap_s > SAME_S), whole  # without a gap a frame at last_s is the action's first
    return whole, whole


def is_observable(clip: Clip, config: ObserveConfig) -> bool:
    """Whether the gap leaves anything to observe: the file's first frame, at 0 s, must lie at or before its beginning.

    Without a gap it must lie before the action. That is what the row says. Whether a frame lies in the observed part is known where the
    file is read (`choose_windows`).
    """
    if config.protocol != "anticipation":
        return True
    return clip.start_s - config.gap_s >= (-SAME_S if config.gap_s > SAME_S else SAME_S)


def is_shortened(clip: Clip, config: ObserveConfig) -> bool:
    """Whether the file begins after what should have been observed, so that less is."""
    if config.protocol != "anticipation" or config.observe_s is None:
        return False
    return clip.start_s - config.gap_s - config.observe_s < -SAME_S


def split_observable(clips: Sequence[Clip], config: ObserveConfig) -> tuple[list[Clip], list[Clip]]:
    """The clips of which something can be observed as far as their rows tell (`is_observable`), and the others."""
    return [clip for clip in clips if is_observable(clip, config)], [clip for clip in clips if not is_observable(clip, config)]


def hull(clip: Clip, config: ObserveConfig) -> Seconds:
    """The seconds that any view of a clip can ask for."""
    if config.protocol != "anticipation":
        return Seconds(clip.start_s, clip.end_s)
    observed, action = seconds_seen(clip, config, end_s=math.inf)
    return Seconds(observed.start_s, action.end_s)


@dataclass(frozen=True)
class Request:
    """Which window of a clip is asked for, and for whom.

    position: in [0, 1], see `choose_window`. fraction: observed share of the clip (early recognition). flow: whether the student's view is
    flow too. future, future_flow: whether the teacher's part is asked for, and its flow. With flow, the second frame of each pair too lies
    in what the view may see.
    """

    position: float
    fraction: float | None = None
    flow: bool = False
    future: bool = False
    future_flow: bool = False


def choose_windows(
    timestamps_s: NDArray[np.float64], clip: Clip, window: WindowConfig, observe: ObserveConfig, request: Request, name: str = "clip"
) -> tuple[Window, Window | None]:
    """The frame indices of the student's view, and of its teacher's where it is asked for.

    timestamps_s: (N,) presentation time of the frames, ascending, in the file's own time.
    Raises DataError as `seconds_seen` and `choose_window` do, and UnobservableError if no frame lies in the observed part.
    """
    position = request.position
    teacher = window if observe.teacher_frames is None else dataclasses.replace(window, frames=observe.teacher_frames)
    if observe.protocol == "whole":
        seen = choose_window(timestamps_s, window, position=position, start_s=clip.start_s, end_s=clip.end_s, name=name)
        if not request.future:
            return seen, None
        return seen, choose_window(timestamps_s, teacher, position=position, start_s=clip.start_s, end_s=clip.end_s, name=name)
    end_s = end_of_clip(timestamps_s, clip, name) if observe.protocol == "early" else math.inf
    observed, future = seconds_seen(clip, observe, end_s=end_s, fraction=request.fraction)
    seen = window_in(observed, timestamps_s, window, position, request.flow, f"observed part of {name}", empty=UnobservableError)
    if not request.future:
        return seen, None
    return seen, window_in(future, timestamps_s, teacher, position, request.future_flow, f"teacher's part of {name}")


def end_of_clip(timestamps_s: NDArray[np.float64], clip: Clip, name: str) -> float:
    """Where a clip ends: as its row says, but not after the last frame has been shown for as long as the frames before it.

    Raises DataError if no frame lies in its interval.
    """
    inside = frames_inside(timestamps_s, clip.start_s, clip.end_s)
    if len(inside) == 0:
        raise DataError(f"no frame in the interval of {name}", interval_s=f"[{clip.start_s}, {clip.end_s})", frames=len(timestamps_s))
    last_s = float(timestamps_s[inside[-1]])
    if len(inside) == 1:  # it is unknown for how long it is shown
        return last_s + SAME_S if clip.end_s is None else clip.end_s
    shown_s = last_s + max(float(np.median(np.diff(timestamps_s[inside]))), SAME_S)
    return shown_s if clip.end_s is None else min(clip.end_s, shown_s)


def window_in(
    part: Seconds,
    timestamps_s: NDArray[np.float64],
    config: WindowConfig,
    position: float,
    pairs: bool,
    name: str,
    *,
    empty: type[DataError] = DataError,
) -> Window:
    """A window of which nothing lies outside a part of the file.

    Frames are held early enough for the second frame of a flow pair to be there; where not even one pair fits, flow is zero.
    Raises `empty` if no frame lies in the part, DataError if they are too few for the window.
    """
    inside = part.frames(timestamps_s)
    if len(inside) == 0:
        end = "the end" if part.end_s is None else f"{part.end_s:g} s"
        raise empty(f"no frame in the {name}", interval=f"{part.start_s:g} s to {end}", frames_of_the_file=len(timestamps_s))
    reach = config.pair_step if pairs else 0
    check_long_enough(len(inside), config, f"the {name}", needed=config.sampled_span + reach)
    last = len(inside) - 1
    steps = np.minimum(spread(len(inside), config, position, reach=reach), max(last - reach, 0))
    targets = steps + reach if reach <= last else steps
    return Window(inside[steps], inside[targets], (int(inside[0]), int(inside[last])))
