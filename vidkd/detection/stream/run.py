"""A stepper along one input, to the end or resumed after a kill: each stage in a thread of its own, all output in one folder."""

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias

from vidkd.base.errors import ConfigError, VideoError
from vidkd.base.progress import Progress
from vidkd.detection.stream.folder import FORMATS, WORK, Work, claim, cleanup_on_failure, input_record, locked, shown
from vidkd.detection.stream.stepper import Seen, Step, Stepper
from vidkd.inference.prefetcher import Prefetcher
from vidkd.inference.sources import Source, is_live, open_source
from vidkd.runtime.detections import Detections
from vidkd.video import Frame
from vidkd.video.reader import Image

FRAMES_AHEAD = 8

Draw: TypeAlias = Callable[[Image, Detections], Image]
"""A frame and its boxes -> what is shown of it; a new array, whose size is the same for all frames of one size."""


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

            begun: Iterable[Any] = self._begun(stage("decode", self._until_error(frames), depth))
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

    def _until_error(self, frames: Iterator[Frame]) -> Iterator[Frame]:
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


SCHEMA_VERSION = 1
LINE_EVERY_S = 15.0
log = logging.getLogger(__name__)

KILLED = "the run was killed, and a live source cannot be resumed"


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """How a stream is walked.

    formats: names of FORMATS. every: only each so-many-th frame is looked at and shown. seconds: frames from this time of the video on are
    left out. sequence_fps: frames a second of an image sequence. part_frames: frames that are written together, of which a kill costs at
    most those of the part in hand. batch: frames given to the stepper together, of a live source always one. real_time: frames of a file
    come no sooner than its times say, as from a camera.
    """

    formats: tuple[str, ...] = tuple(FORMATS)
    every: int = 1
    seconds: float | None = None
    sequence_fps: float | None = None
    part_frames: int = 240
    batch: int = 8
    real_time: bool = False

    def record(self) -> dict[str, Any]:
        """What the result depends on: all but the batch."""
        return {**{name: value for name, value in asdict(self).items() if name != "batch"}, "formats": sorted(self.formats)}


def walk_stream(
    name: str,
    make_stepper: Callable[[Source], Stepper],
    folder: Path,
    *,
    class_names: Sequence[str],
    settings: Mapping[str, Any],
    config: StreamConfig | None = None,
    draw: Draw | None = None,
    stop: Callable[[], bool] = lambda: False,
    overwrite: bool = False,
    added: Sequence[str] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Walk an input and leave its files in `folder`; returns its summary, with "status": done, found (it was finished) or stopped.

    name: a file, an image sequence, a camera's number or an address. make_stepper: called once the source is open. class_names: those that
    labels index. settings: all that the results depend on besides the config (model, filters), of values that JSON can hold.
    draw: needed for the format "video". stop: asked after every part (a live source: every frame) whether to end; a file can then be
    resumed, a live source is finished. overwrite: replace what an earlier run left there. added: names of the files that the caller adds.
    The same call resumes a killed or stopped one. An input that breaks off is finished with what there was, then its VideoError is
    raised, with the frame; of one that fails before a part is safe nothing is left. Raises ConfigError as `claim`, or if another process
    works there; VideoError if nothing can be written; what stepper and draw raise.
    """
    config = config or StreamConfig()
    record = {**input_record(name), **config.record(), **settings}
    with contextlib.ExitStack() as stack:
        with writing(folder, frames=0):
            stack.enter_context(locked(folder))
            summary = claim(folder, record, overwrite=overwrite, added=added)
        if summary is not None:
            return _result(summary, "found")
        stack.enter_context(cleanup_on_failure(folder))
        work = Work(folder / WORK)
        if is_live(name) and work.done.parts and not work.done.ended:
            with writing(folder, frames=work.done.frames):
                work.commit(work.done.state, {}, ended=True, trouble={"what": f"{KILLED}: {shown(name)}", "lines": {}})
        if not work.done.ended:
            _walk(work, name, make_stepper, class_names, config, draw if "video" in config.formats else None, stop, quiet)
        if not work.done.ended:
            return {"input": shown(name), "frames": work.done.frames, "status": "stopped"}
        return _result(_finish(folder, work, name, class_names, config), "done")


def _walk(
    work: Work,
    name: str,
    make_stepper: Callable[[Source], Stepper],
    class_names: Sequence[str],
    config: StreamConfig,
    draw: Draw | None,
    stop: Callable[[], bool],
    quiet: bool,
) -> None:
    """Walk from the first frame that is not safe yet, to the end or until stopped after a part."""
    done = work.done
    if done.parts:
        log.info("%s: resumed after %d frames that are done", shown(name), done.frames)
    with open_source(name, start=done.next_index, sequence_fps=config.sequence_fps, stop_s=config.seconds) as source:
        stepper = make_stepper(source)
        if done.parts:
            stepper.restore(done.state)
        pipeline = Pipeline(stepper, batch=1 if source.live else config.batch, part_frames=config.part_frames, draw=draw)
        frames = wanted(source, config, size=done.size if done.parts else None)
        if source.live:  # a file is left at the end of a part, to be resumed; a live source ends, with all that was seen until then
            frames = takewhile(lambda _: not stop(), frames)
        elif config.real_time:
            frames = in_real_time(frames)
        total, what = frames_wanted(source, config), Path(shown(name)).name
        bar = Progress(total, what, done=done.frames, rank=int(quiet), every_steps=1 << 60, every_s=LINE_EVERY_S)
        with bar, contextlib.closing(pipeline.along(frames)) as items:
            try:
                for item in items:
                    with writing(work.folder.parent, frames=work.done.frames):
                        if isinstance(item, Seen):
                            work.write(item, class_names, fps=source.fps / config.every)
                        else:
                            trouble = _as_row(pipeline.trouble, name)
                            work.commit(item.state, pipeline.seconds(), ended=item.ended, trouble=trouble)
                    if isinstance(item, Seen):
                        bar.step()
                    elif not source.live and stop():
                        break
            finally:
                work.abort()


def frames_wanted(source: Source, config: StreamConfig) -> int | None:
    """How many frames `wanted` will give of the whole input, about; None of a live source."""
    if source.count is None:
        return None
    total = math.ceil(source.count / config.every)
    return total if config.seconds is None else min(total, math.ceil(config.seconds * source.fps / config.every))


def wanted(source: Source, config: StreamConfig, *, size: tuple[int, int] | None = None) -> Iterator[Frame]:
    """Every so-many-th frame of a source. Raises VideoError as its frames do, and at the first that has another size.

    size: (width, height) of the frames before these, None for the first frames of all.
    """
    for frame in source.frames:
        height, width = frame.image.shape[:2]
        size = size or (width, height)
        if (width, height) != size:
            reason = f"{width} x {height}, {size[0]} x {size[1]} before"
            raise VideoError("the size of the frames changes", after_frames=frame.index, reason=reason)
        if frame.index % config.every == 0:
            yield frame


def in_real_time(
    frames: Iterator[Frame], clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Frame]:
    """The frames, each no sooner after the first than its time says; a frame that is late already comes at once."""
    start: float | None = None
    for frame in frames:
        start = clock() - frame.time_s if start is None else start
        if (early_s := start + frame.time_s - clock()) > 0:
            sleep(early_s)
        yield frame


@contextlib.contextmanager
def writing(folder: Path, *, frames: int) -> Iterator[None]:
    """The block writes for a run in `folder`; an error is raised as a VideoError that says what is safe: this number of frames.

    A file where a folder should be is a ConfigError.
    """
    try:
        yield
    except (NotADirectoryError, FileExistsError) as error:
        raise ConfigError(f"a file is in the way of the folder: {folder}", hint="another --out, or move that file") from error
    except (OSError, VideoError) as error:
        reason = error.lines.get("reason", error.what) if isinstance(error, VideoError) else error.strerror or error
        raise VideoError(
            f"cannot write to: {folder}",
            reason=reason,
            until_then=f"{frames} frames, which are kept",
            hint="free disk space or fix permissions, then repeat the same command: it resumes",
        ) from error


def _as_row(trouble: VideoError | None, name: str) -> dict[str, Any] | None:
    """What broke a source off, without the user and password of its address."""
    if trouble is None:
        return None
    lines = {label: text.replace(name, shown(name)) for label, text in trouble.lines.items()}
    return {"what": trouble.what.replace(name, shown(name)), "lines": lines}


def _finish(folder: Path, work: Work, name: str, class_names: Sequence[str], config: StreamConfig) -> dict[str, Any]:
    """Write the files of all formats and, last, the summary."""
    done = work.done
    if not done.parts:
        trouble = done.trouble or {"what": f"no frames in: {shown(name)}", "lines": {}}
        shutil.rmtree(work.folder, ignore_errors=True)
        raise VideoError(trouble["what"], **trouble["lines"])
    seconds = {stage: value for stage, value in done.seconds.items() if stage != "draw" or "video" in config.formats}
    with writing(folder, frames=done.frames):
        for format_ in config.formats:
            work.write_output(format_, class_names, name=Path(shown(name)).name)
        summary = {
            "schema_version": SCHEMA_VERSION,
            "input": shown(name),
            "frames": done.frames,
            "detections": dict(work.found().most_common()),
            # of each stage in its own seconds of work, while the others ran; and of all together
            "frames_per_second": {
                {"total": "end_to_end"}.get(stage, stage): round(done.frames / spent, 2) for stage, spent in seconds.items() if spent > 0
            },
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
            "trouble": done.trouble,
            "files": [FORMATS[format_] for format_ in config.formats],
        }
        work.finish(folder, summary)
    return summary


def _result(summary: Mapping[str, Any], status: str) -> dict[str, Any]:
    """The summary, or the VideoError of an input that broke off."""
    trouble = summary["trouble"]
    if trouble is not None:
        boxes = sum(summary["detections"].values())
        raise VideoError(trouble["what"], **trouble["lines"], until_then=f"{summary['frames']} frames, {boxes} boxes; they are kept")
    return {**summary, "status": status}
