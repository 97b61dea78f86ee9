"""Run a detector over videos, image sequences or cameras; annotated video, JSON lines, COCO JSON, MOT text, CSV.

Killed at any moment, the same command resumes. docs/guides/detection.md explains the rest.

  vidkd detect street.mp4 --model yolox_nano.onnx --out found
  vidkd detect videos/ --model tiny.cfg --weights tiny.weights --names coco.names --classes person car --track --out found
  vidkd detect rtsp://camera/stream --model yolox_nano.onnx --seconds 600 --out found
"""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vidkd.base.records import Count, Whole
from vidkd.cli.classifiers import other_runtime_named
from vidkd.cli.streams import FINISHING, STOPPED, StreamSettings, out_folder, stream_config
from vidkd.cli.verb_parser import positional

if TYPE_CHECKING:
    from vidkd.detection.opening import ModelFiles
    from vidkd.detection.stream import Region, Stepper
    from vidkd.inference.sources import Source
    from vidkd.runtime.detector import Detector

log = logging.getLogger(__name__)

SHOWN_CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class Settings(StreamSettings):
    """The verb's own.

    Args:
        inputs: video files, folders, globs in quotes, image sequences, a camera's number, rtsp://...
        model: a detector: .onnx, .xml, .tflite, a darknet .cfg, a run, or torchvision:NAME.
        weights: of darknet the .weights of the .cfg; of torchvision a state dict.
        names: of darknet class names, one a line; of torchvision where they are not those of its own weights.
        metadata: of an exported file the YAML that says how to run it (default: beside it).
        resize: of darknet how frames meet the network (default: darknet; stretch for Yolo-Fastest).
        runtime: of darknet eager (torch) or onnx, faster on a processor; of an .onnx file onnxruntime (default) or openvino.
        batch: frames given to the model together; live always 1.
        workers: inputs at the same time, a process each.
        dask: address of a Dask scheduler (tcp://host:port) to use instead of local processes.
    """

    inputs: tuple[str, ...] = positional("INPUT")
    model: str
    weights: str | None = None
    names: str | None = None
    metadata: str | None = None
    resize: Literal["darknet", "centre", "top_left", "stretch"] | None = None
    runtime: Literal["eager", "onnx", "onnxruntime", "openvino"] | None = None
    batch: Count = 8
    workers: Whole = 1
    dask: str | None = None


def run(given: Settings) -> int:
    """Detect in every input; returns 1 if one of several failed, 130 if the user stopped it."""
    from vidkd.base.cores import check_threads
    from vidkd.detection.stream.inputs import find_inputs, folder_names
    from vidkd.engine.interrupts import Interrupt

    check_threads(given.threads, where="--threads")
    inputs = find_inputs(given.inputs, leave_out=given.out)
    folders = {name: given.out / folder for name, folder in folder_names(inputs).items()}
    kept(given, opened(files_of(given)).class_names)
    alone, interrupt = given.dask is None and given.workers in (0, 1), Interrupt(FINISHING)
    with out_folder(given.out), contextlib.ExitStack() as stack:
        detect = functools.partial(detect_one, given=given, folders=folders)
        if alone:
            stack.enter_context(interrupt.caught())
            detect = functools.partial(detect, stop=lambda: interrupt.asked)
        if len(inputs) == 1 and alone:
            return _say(detect(inputs[0]), folders[inputs[0]])
        return _detect_many(inputs, detect, given, folders, interrupt)


def files_of(given: Settings) -> "ModelFiles":
    """The model's files. Threads of each of several processes: so that together they are not more than processors."""
    from vidkd.detection.opening import ModelFiles

    named = {name: getattr(given, name) for name in ("model", "weights", "names", "metadata", "resize", "runtime", "score", "device")}
    share = max(1, (os.cpu_count() or 1) // given.workers) if given.workers > 1 else 0
    return ModelFiles(**named, nms_iou=given.nms, model_flag="--model", threads=given.threads or share)


@functools.lru_cache(maxsize=1)
def opened(files: "ModelFiles") -> "Detector":
    """The model, loaded once a process; logged before, as it may take a while."""
    log.info("opening %s", files.model)
    with other_runtime_named(files.model, files.runtime):
        return files.open()


@functools.lru_cache(maxsize=1)
def recorded(files: "ModelFiles") -> dict[str, Any]:
    """What is recorded of the model, its files read once a process."""
    return files.record()


def kept(given: StreamSettings, class_names: Sequence[str]) -> "tuple[frozenset[int] | None, Region | None]":
    """Labels and region of the boxes that are kept, None for all. Raises ConfigError for an unknown class or no region."""
    from vidkd.detection.stream import Region, labels_of

    labels = labels_of(given.classes, class_names) if given.classes else None
    return labels, Region.parse(given.region) if given.region else None


def kept_record(given: StreamSettings, class_names: Sequence[str]) -> dict[str, Any]:
    """The same, and the names of all classes, for the record of a run."""
    classes = sorted(given.classes) if given.classes else None
    return {"class_names": list(class_names), "classes": classes, "region": given.region, "track": given.track}


def detect_one(item: str, *, given: Settings, folders: Mapping[str, Path], stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Detect in one input; returns its summary. Runs in a worker process where there are several."""
    from vidkd.detection.stream import ByteTracker, DetectorStepper, Filtered, Tracked, walk_stream
    from vidkd.detection.stream.folder import CALLED
    from vidkd.report.boxes import draw_boxes

    files = files_of(given)
    detector = opened(files)

    def stepper(source: "Source") -> "Stepper":
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


def _detect_many(inputs: Sequence[str], detect: Any, given: Settings, folders: Mapping[str, Path], interrupt: Any) -> int:
    from vidkd.base.progress import Progress
    from vidkd.base.walk import map_files

    failed, alone = 0, given.dask is None and given.workers in (0, 1)
    # nothing is kept by the walk: the folder of an input says what is done
    walk = map_files(detect, inputs, workers=given.workers, dask=given.dask, fingerprint=lambda _: "")
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
