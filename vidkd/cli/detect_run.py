"""What `vidkd detect` does. Never imports torch for an exported file."""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidkd.base.cores import check_threads
from vidkd.base.progress import Progress
from vidkd.base.walk import map_files
from vidkd.cli.classifiers import other_runtime_named
from vidkd.cli.detect import Settings
from vidkd.cli.streams import StreamSettings
from vidkd.detection.opening import ModelFiles
from vidkd.detection.stream import (
    FORMATS,
    ByteTracker,
    DetectorStepper,
    Filtered,
    Region,
    Stepper,
    StreamConfig,
    Tracked,
    labels_of,
    walk_stream,
)
from vidkd.detection.stream.folder import CALLED
from vidkd.detection.stream.inputs import find_inputs, folder_names
from vidkd.engine.interrupts import Interrupt
from vidkd.inference.sources import Source
from vidkd.report.annotate import draw_boxes
from vidkd.runtime.detector import Detector

log = logging.getLogger(__name__)

STOPPED = 130
"""Exit code of a verb that the user stopped."""
FINISHING = "finishing the part in hand"
"""What such a verb does behind the first Ctrl-C."""
SHOWN_CLASSES = 4


def stream_config(given: StreamSettings, *, batch: int, real_time: bool = False) -> StreamConfig:
    """The stream that the settings describe."""
    return StreamConfig(
        formats=tuple(dict.fromkeys(given.formats or FORMATS)),
        every=given.every,
        seconds=given.seconds,
        sequence_fps=given.fps,
        part_frames=given.part,
        batch=batch,
        real_time=real_time,
    )


@contextlib.contextmanager
def out_folder(out: Path) -> Iterator[None]:
    """The folder --out, which is removed if it was made in the block and every input failed: then it is empty."""
    there = out.exists()
    try:
        yield
    finally:
        if not there:
            with contextlib.suppress(OSError):
                out.rmdir()


def detect(given: Settings) -> int:
    """Detect in every input; returns 1 if one of several failed, 130 if the user stopped it."""
    check_threads(given.threads, where="--threads")
    inputs = find_inputs(given.inputs, leave_out=given.out)
    folders = {name: given.out / folder for name, folder in folder_names(inputs).items()}
    kept(given, opened(files_of(given)).class_names)
    alone, interrupt = given.dask is None and given.workers in (0, 1), Interrupt(FINISHING)
    with out_folder(given.out), contextlib.ExitStack() as stack:
        detect_in = functools.partial(detect_one, given=given, folders=folders)
        if alone:
            stack.enter_context(interrupt.caught())
            detect_in = functools.partial(detect_in, stop=lambda: interrupt.asked)
        if len(inputs) == 1 and alone:
            return _say(detect_in(inputs[0]), folders[inputs[0]])
        return _detect_many(inputs, detect_in, given, folders, interrupt)


def files_of(given: Settings) -> ModelFiles:
    """The model's files. Threads of each of several processes: so that together they are not more than processors."""
    named = {name: getattr(given, name) for name in ("model", "weights", "names", "metadata", "resize", "runtime", "score", "device")}
    share = max(1, (os.cpu_count() or 1) // given.workers) if given.workers > 1 else 0
    return ModelFiles(**named, nms_iou=given.nms, model_flag="--model", threads=given.threads or share)


@functools.lru_cache(maxsize=1)
def opened(files: ModelFiles) -> Detector:
    """The model, loaded once a process; logged before, as it may take a while."""
    log.info("opening %s", files.model)
    with other_runtime_named(files.model, files.runtime):
        return files.open()


@functools.lru_cache(maxsize=1)
def recorded(files: ModelFiles) -> dict[str, Any]:
    """What is recorded of the model, its files read once a process."""
    return files.record()


def kept(given: StreamSettings, class_names: Sequence[str]) -> tuple[frozenset[int] | None, Region | None]:
    """Labels and region of the boxes that are kept, None for all. Raises ConfigError for an unknown class or no region."""
    labels = labels_of(given.classes, class_names) if given.classes else None
    return labels, Region.parse(given.region) if given.region else None


def kept_record(given: StreamSettings, class_names: Sequence[str]) -> dict[str, Any]:
    """The same, and the names of all classes, for the record of a run."""
    classes = sorted(given.classes) if given.classes else None
    return {"class_names": list(class_names), "classes": classes, "region": given.region, "track": given.track}


def detect_one(item: str, *, given: Settings, folders: Mapping[str, Path], stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Detect in one input; returns its summary. Runs in a worker process where there are several."""
    files = files_of(given)
    detector = opened(files)

    def stepper(source: Source) -> Stepper:
        filtered = Filtered(DetectorStepper(detector), *kept(given, detector.class_names))
        return Tracked(filtered, ByteTracker(fps=source.fps / given.every)) if given.track else filtered

    return walk_stream(
        item,
        stepper,
        folders[item],
        class_names=detector.class_names,
        settings={**recorded(files), CALLED: {"model": files.called}, **kept_record(given, detector.class_names)},
        config=stream_config(given, batch=given.batch),
        draw=functools.partial(draw_boxes, class_names=detector.class_names),
        stop=stop,
        overwrite=given.overwrite,
        quiet=given.workers > 1 or given.dask is not None,
    )


def _detect_many(inputs: Sequence[str], detect_in: Any, given: Settings, folders: Mapping[str, Path], interrupt: Any) -> int:

    failed, alone = 0, given.dask is None and given.workers in (0, 1)
    # nothing is kept by the walk: the folder of an input says what is done
    walk = map_files(detect_in, inputs, workers=given.workers, dask=given.dask, fingerprint=lambda _: "")
    with Progress(len(inputs), "inputs", rank=int(alone)) as progress, contextlib.closing(walk) as results:  # type: ignore[type-var]
        for result in results:
            progress.step()
            if result.error is not None:
                failed += 1
                sys.stderr.write(f"vidkd: {result.item}: {result.error.partition(': ')[2]}\n")
            elif result.value is not None:
                _say(result.value, folders[result.item])
            if interrupt.asked:
                return STOPPED
    if failed:
        sys.stderr.write(f"vidkd: {failed} of {len(inputs)} inputs FAILED; the same command repeats only those\n")
    return 1 if failed else 0


def _say(summary: Mapping[str, Any], folder: Path) -> int:
    """Print what came of an input; returns the exit code that this means."""
    sys.stdout.write(report(summary, str(folder)) + "\n")
    return STOPPED if summary["status"] == "stopped" else 0


def report(summary: Mapping[str, Any], folder: str) -> str:
    """What the verb prints of one input."""
    frames = summary["frames"]
    if summary["status"] == "stopped":
        return f"{folder}: stopped after {frames} frames; the same command resumes"
    found, speeds = summary["detections"], dict(summary["frames_per_second"])
    first = ", ".join(f"{name} {count}" for name, count in list(found.items())[:SHOWN_CLASSES])
    more = f" and {len(found) - SHOWN_CLASSES} more classes" if len(found) > SHOWN_CLASSES else ""
    boxes = f"{sum(found.values())} boxes" + (f" ({first}{more})" if found else "")
    if summary["status"] == "found":
        return f"{folder}: found finished: {frames} frames, {boxes}"
    whole = speeds.pop("end_to_end", 0.0)
    stages = ", ".join(f"{stage} {speed:.1f}" for stage, speed in speeds.items())
    return f"{folder}: {frames} frames, {boxes}; {whole:.1f} frames a second (stages, in parallel: {stages})"
