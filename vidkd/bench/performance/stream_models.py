"""What speed along a stream is measured with: published students and oracles and a stretch of real video, of the folder VIDKD_DATA."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.roots import DATA_VARIABLE
from vidkd.detection.online import Student
from vidkd.models.darknet.detector import DarknetDetector, Runtime
from vidkd.runtime.detector import Detector
from vidkd.runtime.letterbox import ResizeMode
from vidkd.runtime.opening import open_detector
from vidkd.video import open_video

VIDEO, NAMES = "pets09/vtest.avi", "weights/yolo_fastest/coco.names"
FIRST_FRAME = 100
STUDENTS: dict[str, tuple[str, str, ResizeMode]] = {
    "Yolo-Fastest-1.1": ("weights/yolo_fastest/yolo-fastest-1.1.cfg", "weights/yolo_fastest/yolo-fastest-1.1.weights", "stretch"),
    "tiny-YOLOv3": ("weights/yolov3_tiny/yolov3-tiny-m123.cfg", "weights/yolov3_tiny/yolov3-tiny.weights", "darknet"),
}
"""cfg and weights in the folder, and how frames meet the network."""
ORACLES = {
    "YOLOX-nano": (
        "weights/yolox_nano/yolox_nano_raw_0.1.1.onnx",
        "input: {size: [416, 416], layout: NCHW, colour: bgr, pixel_max: 255, resize: top_left}\n"
        "head: {style: yolox, strides: [8, 16, 32]}\n",
    ),
    "YOLOv8n": (
        "weights/yolov8n_int8/yolov8n_int8.tflite",
        "input: {size: [640, 640], layout: NHWC, colour: rgb, pixel_max: 1, resize: centre}\nhead: {style: yolov8, boxes: unit}\n",
    ),
}


def why_absent() -> list[str]:
    """A sentence that says why nothing can be measured; none where all files are there."""
    if not os.environ.get(DATA_VARIABLE):
        return [f"Left out: {DATA_VARIABLE} names no folder with the models and the video."]
    wanted = [VIDEO, NAMES, *(path for *files, _ in STUDENTS.values() for path in files), *(path for path, _ in ORACLES.values())]
    missing = [path for path in wanted if not (folder() / path).is_file()]
    return [f"Left out: {DATA_VARIABLE} lacks {', '.join(missing)}."] if missing else []


def folder() -> Path:
    """Where models and video lie."""
    return Path(os.environ[DATA_VARIABLE])


def open_student(name: str, runtime: Runtime) -> Student:
    """One of STUDENTS on the processor."""
    cfg, weights, resize = STUDENTS[name]
    return Student(DarknetDetector.open(folder() / cfg, folder() / weights, folder() / NAMES, resize=resize, runtime=runtime))


def open_oracle(name: str, scratch: Path) -> Detector:
    """One of ORACLES on one thread; scratch: where the YAML that it needs may be written."""
    path, metadata = ORACLES[name]
    side = scratch / f"{name}.yaml"
    side.write_text(f"classes: {folder() / NAMES}\n{metadata}", encoding="utf-8")
    return open_detector(folder() / path, metadata=side, threads=1, device="cpu")


def frames_of_video(count: int, first: int = FIRST_FRAME) -> NDArray[np.uint8]:
    """Frames that follow each other, (N, H, W, 3)."""
    with open_video(folder() / VIDEO) as video:
        return np.asarray(video.frames_at_indices(list(range(first, first + count))), np.uint8)
