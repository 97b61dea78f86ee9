"""Decoding, the network, making boxes and drawing side by side, each in a thread of its own; who takes the results is the fifth."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from vidkd.base.errors import VideoError
from vidkd.detection.stream.stepper import Step, Stepper
from vidkd.inference.prefetcher import Prefetcher
from vidkd.runtime.detections import Detections
from vidkd.video import Frame
from vidkd.video.types import Image

FRAMES_AHEAD = 8

Draw: TypeAlias = Callable[[Image, Detections], Image]
"""A frame and its boxes -> what is shown of it; a new array, whose size is the same for all frames of one size."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One frame after its step. size: (width, height) of the frame. picture: as drawn, None where nothing is."""

    step: Step
    size: tuple[int, int]
    picture: Image | None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The end of a part, after its last frame. state: the stepper's at this place. ended: nothing comes after it."""

    state: bytes
    ended: bool


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """The first half of a step of these frames. ends_part: whether they are the last of a part."""

    frames: list[Frame]
    begun: Any
    ends_part: bool


@dataclass(frozen=True, kw_only=True)
class _Stepped:
    frame: Frame
    step: Step


class Pipeline:
    """One pass along a stream: `for item in pipeline.along(frames)`.

    batch: frames given to the stepper together; the last of a part are fewer. part_frames: frames of a part, after each of which comes a
    Cut. draw: None where no picture is wanted. trouble: the VideoError that ended the frames early, after all before it were handed on.
    Errors of the stepper or of drawing are raised, after the frames before them, and end all threads; so does leaving the loop.
    At most `most_frames(batch)` frames and as many drawn pictures are held at any time.
    """

    def __init__(self, stepper: Stepper, *, batch: int, part_frames: int, draw: Draw | None) -> None:
        self._stepper, self._batch, self._part_frames, self._draw = stepper, batch, part_frames, draw
        self._stages: dict[str, Prefetcher[Any]] = {}
        self.trouble: VideoError | None = None

    def along(self, frames: Iterator[Frame]) -> Generator[Seen | Cut, None, None]:
        """Every frame in order, and a Cut after each part and at the end."""
        depth = max(FRAMES_AHEAD, self._batch)
        with contextlib.ExitStack() as stack:
            decoded = stack.enter_context(Prefetcher(self._until_trouble(frames), depth=depth))
            if self._stepper.staged:
                begun = stack.enter_context(Prefetcher(self._begun(decoded), depth=1))
                stepped = stack.enter_context(Prefetcher(self._ended(begun), depth=depth))
                halves: dict[str, Prefetcher[Any]] = {"infer": begun, "boxes": stepped}
            else:
                stepped = stack.enter_context(Prefetcher(self._steps(decoded), depth=depth))
                halves = {"infer": stepped}
            drawn = stack.enter_context(Prefetcher(self._pictures(stepped), depth=FRAMES_AHEAD))
            self._stages = {"decode": decoded, **halves, "draw": drawn}
            yield from drawn

    def seconds(self) -> dict[str, float]:
        """Seconds of work so far of each thread, waiting for the one before left out: decode, infer, of a staged stepper boxes, draw."""
        waited = [0.0, *(stage.waited_s for stage in self._stages.values())]
        return {name: max(0.0, stage.made_s - idle_s) for (name, stage), idle_s in zip(self._stages.items(), waited, strict=False)}

    def _until_trouble(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """A source that breaks off ends; only its own errors do so, not those of a stepper."""
        try:
            yield from frames
        except VideoError as error:
            self.trouble = error

    def _batches(self, frames: Prefetcher[Frame]) -> Iterator[tuple[list[Frame], bool]]:
        """The frames of each step, and whether a part ends with them; at last those that are left, which may be none."""
        waiting: list[Frame] = []
        made = 0
        for frame in frames:
            waiting.append(frame)
            if len(waiting) < min(self._batch, self._part_frames - made):
                continue
            made = (made + len(waiting)) % self._part_frames
            yield waiting, made == 0
            waiting = []
        yield waiting, False

    def _steps(self, frames: Prefetcher[Frame]) -> Iterator[_Stepped | Cut]:
        for batch, ends_part in self._batches(frames):
            yield from self._stepped(batch, self._stepper.step(batch) if batch else [])
            if ends_part:
                yield Cut(state=self._stepper.state(), ended=False)
        yield Cut(state=self._stepper.state(), ended=True)

    def _begun(self, frames: Prefetcher[Frame]) -> Iterator[_Begun]:
        for batch, ends_part in self._batches(frames):
            if batch:
                yield _Begun(frames=batch, begun=self._stepper.begin(batch), ends_part=ends_part)

    def _ended(self, begun: Prefetcher[_Begun]) -> Iterator[_Stepped | Cut]:
        for one in begun:
            yield from self._stepped(one.frames, self._stepper.end(one.frames, one.begun))
            if one.ends_part:
                yield Cut(state=self._stepper.state(), ended=False)
        yield Cut(state=self._stepper.state(), ended=True)

    def _stepped(self, frames: list[Frame], steps: list[Step]) -> Iterator[_Stepped]:
        """The results of these frames, which are let go of one by one."""
        if len(steps) != len(frames):
            raise ValueError(f"a stepper gave {len(steps)} results for {len(frames)} frames")
        for step in steps:
            yield _Stepped(frame=frames.pop(0), step=step)

    def _pictures(self, stepped: Prefetcher[_Stepped | Cut]) -> Iterator[Seen | Cut]:
        for item in stepped:
            if isinstance(item, Cut):
                yield item
                continue
            height, width = item.frame.image.shape[:2]
            picture = None if self._draw is None else self._draw(item.frame.image, item.step.detections)
            yield Seen(step=item.step, size=(width, height), picture=picture)


def most_frames(batch: int) -> int:
    """Most decoded frames that are held at once: what waits before and after the stepper, what its halves work on and have between them,
    and what is in hand.
    """
    return 2 * max(FRAMES_AHEAD, batch) + 3 * batch + 4
