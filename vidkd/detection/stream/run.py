"""A stepper along one input, to the end or resumed after a kill; all output in one folder."""

import contextlib
import logging
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError, VideoError, unknown_name
from vidkd.base.files import write_json
from vidkd.base.progress import Progress
from vidkd.detection.stream.folder import FORMATS, RECORD, SUMMARY, WORK, Work, claim, cleanup_on_failure, input_record, locked, shown
from vidkd.detection.stream.inputs import StreamSource, constant_size, open_from
from vidkd.detection.stream.pipeline import Cut, Draw, Pipeline, Seen
from vidkd.detection.stream.stepper import Stepper
from vidkd.inference.sources import is_live
from vidkd.video import Frame

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
    Raises ConfigError for a number that cannot be, or an unknown format.
    """

    formats: tuple[str, ...] = tuple(FORMATS)
    every: int = 1
    seconds: float | None = None
    sequence_fps: float | None = None
    part_frames: int = 240
    batch: int = 8
    real_time: bool = False

    def __post_init__(self) -> None:
        for name in ("every", "part_frames", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"seconds must be above 0, not {self.seconds:g}")
        for format_ in self.formats:
            if format_ not in FORMATS:
                raise unknown_name("format", format_, FORMATS)

    def record(self) -> dict[str, Any]:
        """What the result depends on: all but the batch."""
        return {**{name: value for name, value in asdict(self).items() if name != "batch"}, "formats": sorted(self.formats)}


def walk_stream(
    name: str,
    make_stepper: Callable[[StreamSource], Stepper],
    folder: Path,
    *,
    class_names: Sequence[str],
    settings: Mapping[str, Any],
    config: StreamConfig | None = None,
    draw: Draw | None = None,
    stop: Callable[[], bool] = lambda: False,
    overwrite: bool = False,
    further: Sequence[str] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Walk an input and leave its files in `folder`; returns its summary, with "status": done, found (it was finished) or stopped.

    name: a file, an image sequence, a camera's number or an address. make_stepper: called once the source is open. class_names: those that
    labels index. settings: all that the results depend on besides the config (model, filters), of values that JSON can hold.
    draw: needed for the format "video". stop: asked after every part (a live source: every frame) whether to end; a file can then be
    resumed, a live source is finished. overwrite, further: as in `claim`; further files are written by the caller, after the summary.
    The same call resumes a killed or stopped one. An input that breaks off is finished with what there was, then its VideoError is
    raised, with the frame; of one that fails before a part is safe nothing is left. Raises ConfigError as `claim`, or if another process
    works there; VideoError if nothing can be written; what stepper and draw raise.
    """
    config = config or StreamConfig()
    if "video" in config.formats and draw is None:
        raise ValueError("the format 'video' needs draw")
    record = {**input_record(name), **config.record(), **settings}
    with contextlib.ExitStack() as stack:
        with writing(folder, frames=0):
            made = not folder.exists() or (folder / RECORD).exists()
            stack.enter_context(locked(folder))
            summary = claim(folder, record, overwrite=overwrite, further=further)
        if summary is not None:
            return _result(summary, "found")
        stack.enter_context(cleanup_on_failure(folder, made=made))
        work = Work(folder / WORK)
        if is_live(name) and work.done.parts and not work.done.ended:
            with writing(folder, frames=work.done.frames):
                work.end({"what": f"{KILLED}: {shown(name)}", "lines": {}}, {})
        if not work.done.ended:
            walk = _Walk(work, class_names, config, draw if "video" in config.formats else None, stop, quiet)
            if not walk.along(name, make_stepper):
                return {"input": shown(name), "frames": work.done.frames, "status": "stopped"}
        return _result(_finish(folder, work, name, class_names, config), "done")


class _Walk:
    """The way along one input, from the first frame that is not safe yet."""

    def __init__(
        self, work: Work, class_names: Sequence[str], config: StreamConfig, draw: Draw | None, stop: Callable[[], bool], quiet: bool
    ) -> None:
        self._work, self._class_names, self._config = work, class_names, config
        self._draw, self._stop, self._quiet = draw, stop, quiet

    def along(self, name: str, make_stepper: Callable[[StreamSource], Stepper]) -> bool:
        """Whether the stream came to its end; False if it was stopped before."""
        config, work = self._config, self._work
        if work.done.parts:
            log.info("%s: resumed after %d frames that are done", shown(name), work.done.frames)
        with open_from(name, start=work.done.next_index, sequence_fps=config.sequence_fps) as source:
            stepper = make_stepper(source)
            if (state := work.state) is not None:
                stepper.restore(state)
            self._pipeline = Pipeline(stepper, batch=1 if source.live else config.batch, part_frames=config.part_frames, draw=self._draw)
            self._clock = _Clock(self._pipeline)
            try:
                frames = wanted(source, config, size=work.done.size if work.done.parts else None)
                # a file is left at the end of a part, to be resumed; a live source ends, with all that was seen until then
                frames = until_stopped(frames, self._stop) if source.live else frames
                frames = in_real_time(frames) if config.real_time and not source.live else frames
                with self._progress(source) as progress, contextlib.closing(self._pipeline.along(frames)) as items:
                    ended = self._take(items, source, progress)
            finally:
                work.abort()
        if ended:
            with self._writing():
                work.end(_as_row(self._pipeline.trouble, name), self._clock.since())
        return ended

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing(self._work.folder.parent, frames=self._work.done.frames)

    def _take(self, items: Iterator[Seen | Cut], source: StreamSource, progress: Progress) -> bool:
        every = self._config.every
        for item in items:
            with self._clock.encoding(), self._writing():
                if isinstance(item, Seen):
                    self._work.write(item, self._class_names, fps=source.fps / every, step=every)
                else:
                    self._work.commit(item.state, self._clock.since())
            if isinstance(item, Seen):
                progress.step()
            elif item.ended or (not source.live and self._stop()):
                return item.ended
        raise AssertionError("a pipeline ends with a cut")

    def _progress(self, source: StreamSource) -> Progress:
        return Progress(
            frames_wanted(source, self._config),
            Path(shown(source.name)).name,
            done=self._work.done.frames,
            rank=int(self._quiet),
            every_steps=1 << 60,
            every_s=LINE_EVERY_S,
        )


def frames_wanted(source: StreamSource, config: StreamConfig) -> int | None:
    """How many frames `wanted` will give of the whole input, about; None of a live source."""
    if source.count is None:
        return None
    total = math.ceil(source.count / config.every)
    return total if config.seconds is None else min(total, math.ceil(config.seconds * source.fps / config.every))


def wanted(source: StreamSource, config: StreamConfig, *, size: tuple[int, int] | None = None) -> Iterator[Frame]:
    """The frames of a source, all of one size, that a stream of this configuration looks at. Raises VideoError as its frames do.

    size: as `constant_size` has it.
    """
    for frame in constant_size(source.frames, size):
        if config.seconds is not None and frame.time_s >= config.seconds:
            return
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


def until_stopped(frames: Iterator[Frame], stop: Callable[[], bool]) -> Iterator[Frame]:
    """The frames that came before the user asked to stop."""
    for frame in frames:
        if stop():
            return
        yield frame


class _Clock:
    """Seconds of work by stage since it was last asked; total: of time that passed."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._start, self._encode_s = pipeline, time.perf_counter(), 0.0
        self._before: dict[str, float] = {}

    @contextlib.contextmanager
    def encoding(self) -> Iterator[None]:
        """The block encodes and writes."""
        start = time.perf_counter()
        yield
        self._encode_s += time.perf_counter() - start

    def since(self) -> dict[str, float]:
        now = {**self._pipeline.seconds(), "encode": self._encode_s, "total": time.perf_counter() - self._start}
        before, self._before = self._before, now
        return {name: seconds - before.get(name, 0.0) for name, seconds in now.items()}


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
    summary = {
        "schema_version": SCHEMA_VERSION,
        "input": shown(name),
        "frames": done.frames,
        "detections": dict(Counter(done.found).most_common()),
        "frames_per_second": speeds(done.frames, seconds),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "trouble": done.trouble,
        "files": [FORMATS[format_] for format_ in config.formats],
    }
    with writing(folder, frames=done.frames):
        work.write_outputs(folder, config.formats, class_names, name=Path(shown(name)).name)
        write_json(folder / SUMMARY, summary)
    shutil.rmtree(work.folder, ignore_errors=True)
    return summary


def speeds(frames: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Frames a second of each stage in its own seconds of work, while the others ran; and of all together (`end_to_end`)."""
    named = {"end_to_end" if stage == "total" else stage: value for stage, value in seconds.items()}
    return {stage: round(frames / value, 2) for stage, value in named.items() if value > 0}


def _result(summary: Mapping[str, Any], status: str) -> dict[str, Any]:
    """The summary, or the VideoError of an input that broke off."""
    trouble = summary["trouble"]
    if trouble is not None:
        boxes = sum(summary["detections"].values())
        raise VideoError(trouble["what"], **trouble["lines"], until_then=f"{summary['frames']} frames, {boxes} boxes; they are kept")
    return {**summary, "status": status}
