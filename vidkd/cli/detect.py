"""Run a detector over videos, image sequences or cameras; annotated video, JSON lines, COCO JSON, MOT text, CSV.

Killed at any moment, the same command goes on where it was. docs/guides/detection.md tells the rest.

  vidkd detect street.mp4 --model yolox_nano.onnx --out found
  vidkd detect videos/ --model tiny.cfg --weights tiny.weights --names coco.names --classes person car --track --out found
  vidkd detect rtsp://camera/stream --model yolox_nano.onnx --seconds 600 --out found
"""

import argparse
import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.cli.classifiers import other_runtime_named
from vidkd.cli.number_flags import add_count
from vidkd.cli.streams import FINISHING, STOPPED, add_stream_arguments, out_folder, region_of, stream_config

if TYPE_CHECKING:
    from vidkd.detection.opening import ModelFiles
    from vidkd.detection.stream import Region, Stepper, StreamConfig
    from vidkd.inference.sources import Source
    from vidkd.runtime.detector import Detector

log = logging.getLogger(__name__)

SHOWN_CLASSES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="video files, folders, globs in quotes, image sequences, a camera's number, rtsp://..."
    )
    parser.add_argument(
        "--model", required=True, metavar="F", help="a detector: .onnx, .xml, .tflite, a darknet .cfg, a run, or torchvision:NAME"
    )
    parser.add_argument("--weights", metavar="F", help="darknet: the .weights of the .cfg; torchvision: a state dict")
    parser.add_argument(
        "--names", metavar="F", help="darknet: class names, one a line; torchvision: where they are not those of its own weights"
    )
    parser.add_argument("--metadata", metavar="F", help="exported file: the YAML that says how to run it (default: beside it)")
    parser.add_argument("--resize", metavar="WAY", help="darknet: how frames meet the network (default: darknet; stretch for Yolo-Fastest)")
    parser.add_argument(
        "--runtime",
        choices=("eager", "onnx", "onnxruntime", "openvino"),
        help="darknet: eager (torch), or onnx, faster on a processor; exported .onnx file: onnxruntime (default) or openvino",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="each input gets a folder of its own in it")
    add_stream_arguments(parser)
    add_count(parser, "--batch", default=8, metavar="N", help="frames given to the model together (default: 8; live: 1)")
    add_count(parser, "--workers", least=0, default=1, metavar="N", help="inputs at the same time, a process each (default: 1)")
    parser.add_argument("--dask", metavar="ADDRESS", help="a Dask scheduler (tcp://host:port) to use instead of local processes")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is done with every input. folders: where the results of each go."""

    files: "ModelFiles"
    config: "StreamConfig"
    classes: tuple[str, ...] | None
    region: "Region | None"
    track: bool
    folders: Mapping[str, str]
    overwrite: bool
    quiet: bool

    def settings(self, class_names: Sequence[str]) -> dict[str, Any]:
        """What results depend on beside the stream's own configuration, and what the model is called."""
        from vidkd.detection.stream.folder import CALLED

        return {
            **recorded(self.files),
            CALLED: {"model": self.files.called},
            "class_names": list(class_names),
            "classes": None if self.classes is None else sorted(self.classes),
            "region": None if self.region is None else self.region.text,
            "track": self.track,
        }


def run(arguments: argparse.Namespace) -> int:
    """Detect in every input; returns 1 if one of several failed, 130 if the user stopped it."""
    from vidkd.detection.stream.inputs import find_inputs
    from vidkd.engine.interrupts import Interrupt

    inputs = find_inputs(arguments.inputs, leave_out=arguments.out)
    job = job_of(arguments, inputs)
    labels_kept(job, opened(job.files).class_names)
    alone = arguments.dask is None and arguments.workers in (0, 1)
    with out_folder(arguments.out):
        if len(inputs) == 1 and alone:
            interrupt = Interrupt(FINISHING)
            with interrupt.caught():
                return _say(detect_one(inputs[0], job=job, stop=lambda: interrupt.asked), job.folders[inputs[0]])
        return _detect_many(inputs, job, arguments.workers, arguments.dask, alone=alone)


def job_of(arguments: argparse.Namespace, inputs: Sequence[str]) -> Job:
    """The job that the arguments describe. Raises ConfigError for those that cannot be."""
    from vidkd.base.cores import check_threads
    from vidkd.detection.opening import ModelFiles
    from vidkd.detection.stream.inputs import folder_names

    check_threads(arguments.threads, where="--threads")
    files = ModelFiles(
        **{name: getattr(arguments, name) for name in ("model", "weights", "names", "metadata", "resize", "runtime", "score", "device")},
        nms_iou=arguments.nms,
        model_flag="--model",
        threads=arguments.threads or _fair_share(arguments.workers),
    )
    return Job(
        files=files,
        config=stream_config(arguments, batch=arguments.batch),
        classes=tuple(arguments.classes) if arguments.classes else None,
        region=region_of(arguments),
        track=arguments.track,
        folders={name: str(arguments.out / folder) for name, folder in folder_names(inputs).items()},
        overwrite=arguments.overwrite,
        quiet=arguments.workers > 1 or arguments.dask is not None,
    )


def _fair_share(workers: int) -> int:
    """Threads of each of several processes, so that together they are not more than processors; 0 for one alone: its library knows best."""
    return max(1, (os.cpu_count() or 1) // workers) if workers > 1 else 0


@functools.lru_cache(maxsize=1)
def opened(files: "ModelFiles") -> "Detector":
    """The model, loaded once a process; that it is, is logged before, as it may take a while."""
    log.info("opening %s", files.model)
    with other_runtime_named(files.model, files.runtime):
        return files.open()


@functools.lru_cache(maxsize=1)
def recorded(files: "ModelFiles") -> dict[str, Any]:
    """What is recorded of the model, its files read once a process."""
    return files.record()


def labels_kept(job: Job, class_names: Sequence[str]) -> frozenset[int] | None:
    """The labels of the classes that are kept, None for all. Raises ConfigError for a class that the model does not have."""
    from vidkd.detection.stream import labels_of

    return None if job.classes is None else labels_of(job.classes, class_names)


def detect_one(item: str, *, job: Job, stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Detect in one input; returns its summary. Runs in a worker process where there are several."""
    from vidkd.detection.stream import ByteTracker, DetectorStepper, Filtered, Tracked, walk_stream
    from vidkd.report.boxes import draw_boxes

    detector = opened(job.files)
    names = detector.class_names

    def stepper(source: "Source") -> "Stepper":
        filtered = Filtered(DetectorStepper(detector), labels_kept(job, names), job.region)
        return Tracked(filtered, ByteTracker(fps=source.fps / job.config.every)) if job.track else filtered

    return walk_stream(
        item,
        stepper,
        Path(job.folders[item]),
        class_names=names,
        settings=job.settings(names),
        config=job.config,
        draw=functools.partial(draw_boxes, class_names=names),
        stop=stop,
        overwrite=job.overwrite,
        quiet=job.quiet,
    )


def _detect_many(inputs: Sequence[str], job: Job, workers: int, dask: str | None, *, alone: bool) -> int:
    from vidkd.base.progress import Progress
    from vidkd.base.walk import map_files
    from vidkd.engine.interrupts import Interrupt

    failed, interrupt = 0, Interrupt(FINISHING)
    with contextlib.ExitStack() as stack:
        detect = functools.partial(detect_one, job=job)
        if alone:
            stack.enter_context(interrupt.caught())
            detect = functools.partial(detect, stop=lambda: interrupt.asked)
        progress = stack.enter_context(Progress(len(inputs), "inputs", rank=int(alone)))
        walk = map_files(detect, inputs, workers=workers, dask=dask, fingerprint=_no_fingerprint)
        for result in stack.enter_context(contextlib.closing(walk)):  # type: ignore[type-var]
            progress.step()
            if result.error is not None:
                failed += 1
                sys.stderr.write(f"vidkd: {result.item}: {result.error.partition(': ')[2]}\n")
            elif result.value is not None:
                _say(result.value, job.folders[result.item])
            if interrupt.asked:
                return STOPPED
    if failed:
        sys.stderr.write(f"vidkd: {failed} of {len(inputs)} inputs FAILED; the same command does those again, and those alone\n")
    return 1 if failed else 0


def _no_fingerprint(_item: str) -> str:
    """Nothing is kept by the walk: the folder of an input says what is done."""
    return ""


def _say(summary: Mapping[str, Any], folder: str) -> int:
    """Print what came of an input; returns the exit code that this means."""
    sys.stdout.write(report(summary, folder) + "\n")
    return STOPPED if summary["status"] == "stopped" else 0


def report(summary: Mapping[str, Any], folder: str) -> str:
    """What the verb prints of one input."""
    frames = summary["frames"]
    if summary["status"] == "stopped":
        return f"{folder}: stopped after {frames} frames; the same command goes on there"
    found, speeds = summary["detections"], dict(summary["frames_per_second"])
    first = ", ".join(f"{name} {count}" for name, count in list(found.items())[:SHOWN_CLASSES])
    more = f" and {len(found) - SHOWN_CLASSES} more classes" if len(found) > SHOWN_CLASSES else ""
    boxes = f"{sum(found.values())} boxes" + (f" ({first}{more})" if found else "")
    if summary["status"] == "found":
        return f"{folder}: found finished: {frames} frames, {boxes}"
    whole = speeds.pop("end_to_end", 0.0)
    stages = ", ".join(f"{stage} {speed:.1f}" for stage, speed in speeds.items())
    return f"{folder}: {frames} frames, {boxes}; {whole:.1f} frames a second (stages, side by side: {stages})"
