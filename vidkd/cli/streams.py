"""Settings that the verbs share which walk along videos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from vidkd.base.fields import Bounds, Count, Positive, Share, Whole


@dataclass(frozen=True, kw_only=True)
class FootageSettings:
    """Which frames a model looks at, and where it runs.

    Args:
        score: least score of a box (default: the model's).
        nms: overlap above which the weaker of two boxes is dropped (default: the model's).
        every: look at every N-th frame only.
        seconds: stop after so many seconds of each video.
        fps: frames a second of an image sequence (default: 25).
        device: auto, cpu, cuda or mps.
        threads: of the model on a processor (default: its library's choice).
        overwrite: replace what an earlier run left.
    """

    score: Share | None = None
    nms: Share | None = None
    every: Count = 1
    seconds: Positive | None = None
    fps: Positive | None = None
    device: str = "auto"
    threads: Whole = 0
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class StreamSettings(FootageSettings):
    """What is written, and which boxes are kept.

    Args:
        out: each input gets a folder of its own in it.
        formats: some of video,jsonl,coco,mot,csv (default: all).
        classes: A,B: keep only boxes of these classes.
        region: X1,Y1,X2,Y2, keep boxes whose centre is inside; pixels, or parts of the frame.
        track: number objects along the video (ByteTrack).
        part: frames written together, the most that a kill costs.
    """

    out: Path
    formats: tuple[Literal["video", "jsonl", "coco", "mot", "csv"], ...] = ()
    classes: tuple[str, ...] = ()
    region: str | None = None
    track: bool = False
    part: Count = 240


Resize = Literal["darknet", "centre", "top_left", "stretch"]


@dataclass(frozen=True, kw_only=True)
class LearningSettings(FootageSettings):
    """Student, oracle, and how often it is asked.

    Args:
        model: the detector that learns: a darknet .cfg, or the folder of a run.
        weights: the .weights of its .cfg.
        names: its class names, one a line.
        resize: how frames meet it (default: darknet, or the run's; stretch for Yolo-Fastest).
        runtime: what runs it: torch (eager), or ONNX Runtime, which is faster on a processor and takes the weights as they learn.
        oracle: the detector that is asked: .onnx, .xml, .tflite, .cfg, a run, or torchvision:NAME.
        oracle_weights: the weights of the oracle's .cfg or torchvision:NAME.
        oracle_names: class names of the oracle's .cfg, or of weights for torchvision that have others.
        oracle_metadata: of an exported oracle the YAML that says how to run it (default: next to it).
        oracle_resize: how frames meet the oracle's .cfg (default: darknet).
        oracle_runtime: what runs an exported oracle's .onnx file (default: onnxruntime).
        oracle_device: where the oracle runs, as --device (default: that of --device).
        oracle_score: least score of the oracle's boxes (default: the model's).
        budget: share of the frames sent to the oracle, at least one call.
        window: the budget holds in any so many frames, of a shorter video in all.
        seed: of all that is drawn.
    """

    model: str
    weights: str | None = None
    names: str | None = None
    resize: Resize | None = None
    runtime: Literal["eager", "onnx"] = "eager"
    oracle: str
    oracle_weights: str | None = None
    oracle_names: str | None = None
    oracle_metadata: str | None = None
    oracle_resize: Resize | None = None
    oracle_runtime: Literal["onnxruntime", "openvino"] | None = None
    oracle_device: str | None = None
    oracle_score: Share | None = None
    budget: Annotated[float, Bounds(gt=0, le=1)] = 0.05
    window: Count = 200
    seed: Whole = 0
