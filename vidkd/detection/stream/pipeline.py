"""Decoding, the network, making boxes and drawing in parallel, each in a thread of its own."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
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


class Pipeline:
    """One pass along a stream: `for item in pipeline.along(frames)`.

    batch: frames given to the stepper together; the last of a part are fewer. part_frames: frames of a part, after each of which comes a
    Cut. draw: None where no picture is wanted. trouble: the VideoError that ended the frames early, after all before it were handed on.
    Errors of the stepper or of drawing are raised, after the frames before them, and end all threads; so does leaving the loop.
    A few batches and FRAMES_AHEAD drawn pictures are held at any time, whatever the length of the stream.
    """

    def __init__(self, stepper: Stepper, *, batch: int, part_frames: int, draw: Draw | None) -> None:
        self._stepper, self._batch, self._part_frames, self._draw = stepper, batch, part_frames, draw
        self._stages: dict[str, Prefetcher[Any]] = {}
        self.trouble: VideoError | None = None

    def along(self, frames: Iterator[Frame]) -> Generator[Seen | Cut, None, None]:
        """Every frame in order, and a Cut after each part and at the end."""
        self._start, depth = time.perf_counter(), max(FRAMES_AHEAD, self._batch)
        with contextlib.ExitStack() as stack:

            def stage(name: str, items: Iterable[Any], depth: int) -> Prefetcher[Any]:
                self._stages[name] = stack.enter_context(Prefetcher(items, depth=depth))
                return self._stages[name]

            begun: Iterable[Any] = self._begun(stage("decode", self._until_trouble(frames), depth))
            if self._stepper.staged:
                begun = stage("infer", begun, 1)
            stepped = stage("boxes" if self._stepper.staged else "infer", self._ended(begun), depth)
            yield from stage("draw", self._pictures(stepped), FRAMES_AHEAD)

    def seconds(self) -> dict[str, float]:
        """Seconds of work so far of each thread, without waiting: decode, infer, of a staged stepper boxes, draw, encode; and in total."""
        waited = [0.0, *(stage.waited_s for stage in self._stages.values())]
        work = {name: max(0.0, stage.made_s - idle_s) for (name, stage), idle_s in zip(self._stages.items(), waited, strict=False)}
        total = time.perf_counter() - self._start
        return {**work, "encode": total - waited[-1], "total": total}

    def _until_trouble(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """A source that breaks off ends; only its own errors do so, not those of a stepper."""
        try:
            yield from frames
        except VideoError as error:
            self.trouble = error

    def _begun(self, frames: Iterable[Frame]) -> Iterator[tuple[list[Frame], Any, bool]]:
        """The frames of each step, the first half of it, and whether a part ends with them."""
        waiting: list[Frame] = []
        made = 0
        for frame in frames:
            waiting.append(frame)
            if len(waiting) == min(self._batch, self._part_frames - made):
                made = (made + len(waiting)) % self._part_frames
                yield waiting, self._stepper.begin(waiting), made == 0
                waiting = []
        if waiting:
            yield waiting, self._stepper.begin(waiting), False

    def _ended(self, begun: Iterable[tuple[list[Frame], Any, bool]]) -> Iterator[tuple[Frame, Step] | Cut]:
        for frames, first_half, ends_part in begun:
            yield from zip(frames, self._stepper.end(frames, first_half), strict=True)
            if ends_part:
                yield Cut(state=self._stepper.state(), ended=False)
        yield Cut(state=self._stepper.state(), ended=True)

    def _pictures(self, stepped: Iterable[tuple[Frame, Step] | Cut]) -> Iterator[Seen | Cut]:
        for item in stepped:
            if isinstance(item, Cut):
                yield item
                continue
            image, step = item[0].image, item[1]
            picture = None if self._draw is None else self._draw(image, step.detections)
            yield Seen(step=step, size=(image.shape[1], image.shape[0]), picture=picture)
