"""Run a detector over videos, image sequences or cameras; annotated video, JSON lines, COCO JSON, MOT text, CSV.

Killed at any moment, the same command resumes. docs/guides/detection.md explains the rest.

  vidkd detect street.mp4 --model yolox_nano.onnx --out found
  vidkd detect videos/ --model tiny.cfg --weights tiny.weights --names coco.names --classes person,car --track --out found
  vidkd detect rtsp://camera/stream --model yolox_nano.onnx --seconds 600 --out found
"""

from dataclasses import dataclass
from typing import Literal

from vidkd.base.fields import Count, Whole
from vidkd.cli.streams import StreamSettings
from vidkd.cli.verb_parser import positional


@dataclass(frozen=True, kw_only=True)
class Settings(StreamSettings):
    """The verb's own.

    Args:
        inputs: video files, folders, globs in quotes, image sequences, a camera's number, rtsp://...
        model: a detector: .onnx, .xml, .tflite, a darknet .cfg, a run, or torchvision:NAME.
        weights: of darknet the .weights of the .cfg; of torchvision a state dict.
        names: of darknet class names, one a line; of torchvision where they are not those of its own weights.
        metadata: of an exported file the YAML that says how to run it (default: next to it).
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
    from vidkd.cli.detect_run import detect

    return detect(given)
