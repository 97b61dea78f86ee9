"""A classifier along a running video: at every step, what it says of the seconds before; frames are read once and soon forgotten.

Nothing here imports torch: the classifier is handed in, whatever runs it.
"""

import logging
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError, VideoError
from vidkd.base.timing import Stopwatch
from vidkd.data.observation import SAME_S, Window
from vidkd.data.transforms import evaluation_geometry
from vidkd.inference.observation_window import ObservationWindow, RecentFrames
from vidkd.inference.predict import crop_view
from vidkd.inference.prefetcher import Prefetcher
from vidkd.inference.sources import Source
from vidkd.runtime.clip_classifier import ClipClassifier
from vidkd.video import Frame

FRAMES_AHEAD = 8
PASSAGES_AHEAD = 2
QUIET_S = 1.0  # an empty moment is handed on where nothing else was for so long
UNEVEN = 1.5  # frames come unevenly if one is shown so many times longer than most
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """What a classifier says at `time_s` of what is then `gap_s` ahead, having seen frames `first` to `last` (indices of the video).

    probabilities: (K,). targets: of its further labels, by name. held: so few frames were there that some were repeated.
    """

    time_s: float
    gap_s: float
    first: int
    last: int
    probabilities: NDArray[np.float64]
    targets: Mapping[str, NDArray[np.float64]]
    held: bool

    @property
    def about_s(self) -> float:
        """The time of which it speaks."""
        return self.time_s + self.gap_s


@dataclass(frozen=True)
class Moment:
    """Decisions in the order of their times, and the frame that is shown after the last of them (None unless frames are asked for).

    An empty one shows that work continues, or that the source is waited for.
    """

    decisions: tuple[Decision, ...]
    frame: Frame | None


@dataclass
class Tally:
    """What has passed so far. skipped: times at which too few frames had been shown for a window. most_frames: the most that were held.

    most_seen: the most frames that were shown in a part of the video into which no window fits.
    decode_s, prepare_s, model_s: seconds of work, of which the first two run in parallel to the third; total_s: since the start.
    trouble: what ended the source early.
    """

    frames: int = 0
    windows: int = 0
    skipped: int = 0
    most_seen: int = 0
    most_frames: int = 0
    last_s: float = 0.0
    decode_s: float = 0.0
    prepare_s: float = 0.0
    model_s: float = 0.0
    total_s: float = 0.0
    trouble: VideoError | None = None


@dataclass(frozen=True)
class _Due:
    """Views (C, T, H, W) of one time, waiting to be judged."""

    time_s: float
    indices: list[int]
    held: bool
    views: list[NDArray[Any]]


@dataclass
class _Passage:
    """What has come of the source since the passage before: times to judge together, and the frame to be shown after that."""

    due: list[_Due] = field(default_factory=list)
    frame: Frame | None = None


class Anticipator:
    """Runs a classifier along one source: `for moment in anticipator.along(source)`; `tally` counts meanwhile.

    Time k is k * step_s, and what is seen then is `observation`'s part of the video. Decoding, preparing and judging work side by side:
    `batch` times are judged together, those of a live source and with `keep_frames` (every frame is handed on) one by one, as they come.
    Memory holds what a window reaches, `batch` times' views a few times over, and some frames between decoder and ring.
    Raises ConfigError for a step that is not positive.
    """

    def __init__(
        self,
        classifier: ClipClassifier,
        observation: ObservationWindow,
        *,
        step_s: float = 0.5,
        batch: int = 8,
        keep_frames: bool = False,
    ) -> None:
        if not 0 < step_s < np.inf:
            raise ConfigError(f"the step from time to time must be above 0 seconds, not {step_s:g}")
        self.classifier, self.observation = classifier, observation
        self._step_s, self._batch, self._keep_frames = step_s, batch, keep_frames
        self.tally = Tally()

    def along(self, source: Source) -> Generator[Moment, None, None]:
        """Everything from the source's first frame to its last; where it breaks off, `tally.trouble` says why.

        At least every `QUIET_S` seconds there is a moment, if need be an empty one, so that the caller can stop: closing the generator ends
        both threads after the frame in hand. Raises DataError as soon as it is seen that no window fits: at the end of the first part that
        is as long as what is seen, if frames come evenly and the file promises no higher rate. Else that is logged there, once, and times
        without a window are skipped.
        """
        self.tally, watch = Tally(), Stopwatch()
        with (
            Prefetcher(source.frames, depth=FRAMES_AHEAD) as frames,
            Prefetcher(self._passages(frames, source), depth=PASSAGES_AHEAD) as passages,
        ):
            try:
                for passage in passages.within(QUIET_S):
                    due, frame = (passage.due, passage.frame) if passage else ([], None)
                    with watch.part("model"):
                        decisions = tuple(self._judge(due)) if due else ()
                    tally = self.tally
                    tally.windows += len(decisions)
                    tally.model_s, tally.total_s = watch.seconds()["model"], watch.total_s()
                    tally.decode_s, tally.prepare_s = frames.made_s, max(0.0, passages.made_s - frames.waited_s)
                    yield Moment(decisions, frame)
            finally:
                frames.stop()  # the thread that takes them would not look up before there is something to judge
        self.tally.total_s = watch.total_s()

    def _passages(self, frames: Prefetcher[Frame], source: Source) -> Iterator[_Passage]:
        """The frames as they come, made into what is to be judged; at damage, all that came before it."""
        ring = RecentFrames(self.observation.data.footage, want_flow=self.classifier.view == "flow")
        together = 1 if source.live or self._keep_frames else self._batch
        waiting, number, looked = _Passage(), 0, self.observation.needed == 1
        try:
            for frame in frames:
                if frame.time_s >= self._reaches_s(number, looked):
                    ring.push(frame)
                self.tally.frames, self.tally.last_s, self.tally.most_frames = frame.index + 1, frame.time_s, ring.most
                if not looked and frame.time_s >= self.observation.seconds - SAME_S:
                    self._look_whether_a_window_fits(ring, source)
                    looked = True
                    ring.forget(self._reaches_s(number, looked))
                while (time_s := number * self._step_s) <= frame.time_s + SAME_S:
                    waiting.due += self._due(ring, time_s)
                    number += 1
                    ring.forget(self._reaches_s(number, looked))
                waiting.frame = frame if self._keep_frames else None
                if waiting.frame is not None or len(waiting.due) >= together:
                    yield waiting
                    waiting = _Passage()
        except VideoError as error:
            self.tally.trouble = error
        if waiting.due:
            yield waiting

    def _reaches_s(self, number: int, looked: bool) -> float:
        """Frames before this are not asked for any more; the first whole part is looked at whatever the step is."""
        time_s = number * self._step_s
        return self.observation.reaches_s(time_s if looked else min(time_s, self.observation.seconds))

    def _look_whether_a_window_fits(self, ring: RecentFrames, source: Source) -> None:
        """At the end of the first whole part: raise DataError where no later one will have more frames, log where one may."""
        observation = self.observation
        times_s = ring.timestamps_s
        times_s = times_s[observation.part(observation.seconds).frames(times_s)]
        if len(times_s) >= observation.needed:
            return
        self.tally.most_seen = max(self.tally.most_seen, len(times_s))
        shown_s = np.diff(times_s)
        even = len(shown_s) > 0 and shown_s.max() < UNEVEN * np.median(shown_s)
        promised = 0.0 if source.live else source.fps * observation.seconds + 1
        if even and promised < observation.needed:
            raise too_short(source.name, observation, self.tally)
        log.warning(
            "no window fits into %s yet: %d frames were shown in %g s, needed are %d; going on, as more may come in that time later",
            source.name,
            len(times_s),
            observation.seconds,
            observation.needed,
        )

    def _due(self, ring: RecentFrames, time_s: float) -> list[_Due]:
        """What is to be judged at one time; nothing if too little of the video had been shown."""
        times_s = ring.timestamps_s
        try:
            windows, held = self.observation.windows(times_s, time_s)
        except DataError:
            self.tally.skipped += 1
            self.tally.most_seen = max(self.tally.most_seen, len(self.observation.part(time_s).frames(times_s)))
            return []
        seen = np.concatenate([window.frames for window in windows])
        if self.classifier.view == "flow":
            seen = np.concatenate([seen, *(self.observation.reached(window).needed for window in windows)])
        return [_Due(time_s, ring.indices([seen.min(), seen.max()]), held, self._views(ring, windows))]

    def _views(self, ring: RecentFrames, windows: Sequence[Window]) -> list[NDArray[Any]]:
        """The crops of all windows, as a data set's samples have them."""
        data, views = self.observation.data, []
        for window in windows:
            footage = ring.footage(window)
            height, width = footage.frames.shape[1:3]
            for crop in range(data.eval_crops):
                geometry = evaluation_geometry(height, width, data.transform, crop, data.eval_crops)
                view = crop_view(self.classifier.view, footage, geometry)
                views.append(view.astype(np.float16) if self.classifier.view == "flow" else view)
        return views

    def _judge(self, due: Sequence[_Due]) -> Iterator[Decision]:
        """Mean softmax over the windows and crops of each time, as `evaluate` has it."""
        scores = self.classifier(np.stack([view for each in due for view in each.views]))
        found, *targets = (
            values.reshape(len(due), -1, values.shape[1]).mean(1) for values in (scores.probabilities, *scores.targets.values())
        )
        for row, each in enumerate(due):
            further = {name: values[row] for name, values in zip(scores.targets, targets, strict=True)}
            first, last = each.indices
            yield Decision(each.time_s, self.observation.gap_s, first, last, found[row], further, each.held)


def too_short(source: str, observation: ObservationWindow, tally: Tally) -> DataError:
    """The error for a source of which no part that was shown holds a window."""
    if tally.frames == 0:
        return DataError(f"no window fits into {source}: nothing is said of it", shown="no frame", needed="a frame at least")
    window, frame_s = observation.data.window, tally.last_s / max(tally.frames - 1, 1)
    longer_s = math.ceil(10 * frame_s * observation.needed - SAME_S) / 10
    ways = [
        "a longer video" if tally.last_s < observation.seconds else "a source of more frames a second",
        *([f"--window-s {longer_s:g}"] if observation.assumed and longer_s > observation.seconds else []),
        "a network trained with window.short_clip=hold",
    ]
    return DataError(
        f"no window fits into {source}: nothing is said of it",
        shown=f"{tally.frames} frames, up to {tally.last_s:.2f} s",
        seen=f"{tally.most_seen} frames at most, in {observation.seconds:g} s",
        needed=f"{observation.needed} (window.frames={window.frames}, window.stride={window.stride})",
        hint=", or ".join(ways),
    )
