"""One call that opens a detector, or a video classifier, in an exported file."""

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.runtime.clip_classifier import ExportedClassifier
from vidkd.runtime.detector import ExportedDetector
from vidkd.runtime.metadata import (
    EMBEDDED_KEY,
    EXPORT_AGAIN,
    ClassifierMetadata,
    ModelMetadata,
    embedded,
    read_metadata,
    wrong_task,
)
from vidkd.runtime.networks import Network, open_onnx, open_openvino, open_tflite

NETWORKS: dict[str, Callable[..., Network]] = {".onnx": open_onnx, ".xml": open_openvino, ".tflite": open_tflite}
# Those that run classifiers of clips, with more than one input.
CLIP_NETWORKS = {suffix: NETWORKS[suffix] for suffix in (".onnx", ".xml")}

Runtime = Literal["onnxruntime", "openvino"]
# Libraries among which a user may choose, with the kinds of files that each runs.
RUNTIMES: dict[str, dict[str, Callable[..., Network]]] = {
    "onnxruntime": {".onnx": open_onnx},
    "openvino": {".onnx": open_openvino, ".xml": open_openvino},
}
# What runs a file where no runtime is chosen.
RUN_BY = {".onnx": "onnxruntime", ".xml": "openvino", ".tflite": "litert"}
NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT"}


# Styles of head for which configs/detectors has YAMLs: of ONNX files, and with the ending _tflite those of TFLite files.
READY = ("yolox", "yolov5", "yolov8")


def refuse_program(path: Path) -> None:
    """Raise CheckpointError for a .pt2 file, with torch or without."""
    if path.suffix.lower() == ".pt2":
        raise CheckpointError(
            f"a program of torch.export, which vidkd writes but does not run: {path}",
            reason="torch's reader of such files may unpickle",
            hint="name the run that it was exported from, or export that to .onnx or .xml",
        )


def library_name(path: Path | str, runtime: Runtime | None = None) -> str:
    """The name of the library that runs an exported file: the one that is chosen, or that of its suffix."""
    return NAMES[runtime or RUN_BY[Path(path).suffix.lower()]]


def open_network(
    path: Path | str,
    *,
    device: str = "auto",
    threads: int = 0,
    runtime: Runtime | None = None,
    known: Mapping[str, Callable[..., Network]] = NETWORKS,
) -> Network:
    """Load a model's file by its suffix, one of `known`.

    device: auto, cpu, or cuda (ONNX Runtime only). threads: 0 for the library's own choice.
    runtime: the library that runs it, of `RUNTIMES`; by default that of its suffix, which for .onnx is ONNX Runtime.
    Raises CheckpointError if the file is missing, no model, or truncated; ConfigError for another suffix, one that the chosen library does
    not run, or a device that is not available; MissingExtraError without the library that runs it.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in known:
        more = "; darknet .cfg and .weights and torch checkpoints by the commands that take them, with torch"
        raise ConfigError(f"not a kind of model file that runs without torch: {path}", known=f"{', '.join(known)} here{more}")
    opens = known if runtime is None else RUNTIMES[runtime]
    if runtime is not None and suffix not in opens:
        what, hint = f"{NAMES[runtime]} does not run {suffix} files here: {path}", f"name no runtime, and {library_name(path)} runs it"
        raise ConfigError(what, it_runs=", ".join(opens), hint=hint)
    if not path.is_file():
        raise CheckpointError(f"model file not found: {path}")
    return opens[suffix](path, device=device, threads=threads)


def open_detector(
    path: Path | str,
    *,
    metadata: ModelMetadata | Path | str | None = None,
    score: float | None = None,
    nms_iou: float | None = None,
    device: str = "auto",
    threads: int = 0,
    runtime: Runtime | None = None,
) -> ExportedDetector:
    """Open a detector in an exported file, one of `NETWORKS` by its suffix.

    metadata: in place of what the file carries or the YAML next to it says; a path is of such a YAML. score, nms_iou: in place of the
    metadata's, in [0, 1]. device, threads, runtime and errors: those of `open_network`; also ConfigError if there is no metadata, or it is
    wrong, or does not fit the file.
    """
    network = open_network(path, device=device, threads=threads, runtime=runtime)
    return ExportedDetector(network, find_metadata(network, metadata), score=score, nms_iou=nms_iou)


def find_metadata(network: Network, given: ModelMetadata | Path | str | None = None) -> ModelMetadata:
    """What is given (metadata, or the path of a YAML); else what the file carries; else `model.yaml` next to `model.onnx`.

    Raises ConfigError if it is wrong, naming file and key; with none of the three, showing the YAML to write.
    """
    if isinstance(given, ModelMetadata):
        return given
    if given is not None:
        return read_metadata(given)
    if network.embedded is not None:
        return embedded(ModelMetadata, network.embedded, network.path)
    side_file = Path(network.path).with_suffix(".yaml")
    if side_file.exists() and side_file.stat().st_size:
        return read_metadata(side_file)
    ready, text = template(network)
    start = f"vidkd config cp detectors/{ready}.yaml {side_file}" if ready else f"write {side_file}"
    raise ConfigError(
        f"nothing says how to run {network.path}",
        looked_in=f"the file itself and {side_file}",
        hint=f"{start}, then compare it with this one; CHECK marks what the file does not show and its source does:\n\n{text}",
    )


def template(network: Network) -> tuple[str, str]:
    """The name of the shipped YAML for such a file ("" without one), and a side YAML for this file.

    Sizes are as its inputs and outputs show them; a value that they do not show is marked `CHECK` and is that of the code that published
    the style, YOLOX's colours and pixels among them.
    """
    port = network.inputs[0]
    shape = port.shape if len(port.shape) == 4 else (None,) * 4
    nhwc = shape[3] == 3
    height, width = shape[1:3] if nhwc else shape[2:4]
    style, head, classes = _head(network, width or 640, height or 640)
    colour, white, resize = ("bgr", 255, "top_left") if style == "yolox" else ("rgb", 1, "centre")
    text = f"""\
version: 1
task: detect
classes: classes.names  # CHECK: a file with one name a line{f", {classes} names" if classes else ""}; or a list here
input:
  name: {json.dumps(port.name)}
  size: [{width or 640}, {height or 640}]{"" if width and height else "  # CHECK: width and height, which the file leaves open"}
  layout: {"NHWC" if nhwc else "NCHW"}
  colour: {colour}  # CHECK: rgb or bgr
  pixel_max: {white}  # CHECK: white is 1 or 255, before mean and std
  mean: [0, 0, 0]  # CHECK
  std: [1, 1, 1]  # CHECK
  resize: {resize}  # CHECK: centre (YOLOv5, YOLOv8), top_left (YOLOX), darknet, stretch
  fill: 114
head:
  style: {style}  # CHECK
{head}
score: 0.25
nms_iou: 0.45  # null where the model suppresses by itself"""
    return f"{style}{'_tflite' * nhwc}" if style in READY else "", text


def _head(network: Network, width: int, height: int) -> tuple[str, str, int | None]:
    """The style of head, the lines for it, and the number of classes that the outputs hold; None where they do not show it."""
    shapes = [output.shape for output in network.outputs]
    outputs = f"  outputs: [{', '.join(json.dumps(output.name) for output in network.outputs)}]"
    unit = "  boxes: pixels  # CHECK: pixels of the input, or unit (0..1)"
    if all(len(shape) == 4 for shape in shapes):
        anchors = ", ".join(["[[10, 14], [23, 27]]"] * len(shapes))
        return "darknet", f"{outputs}\n  anchors: [{anchors}]  # CHECK: those of the cfg", None
    if len(shapes) != 1 or len(shapes[0]) != 3:
        return "boxes", f"{outputs}  # CHECK: boxes, scores, labels\n{unit}", None
    _, first, second = shapes[0]
    if first is not None and (second is None or first < second):
        return "yolov8", unit, first - 4
    if second == 6:
        return "boxes", unit, None
    undecoded = first == sum((width // stride) * (height // stride) for stride in (8, 16, 32))
    classes = None if second is None else second - 5
    return ("yolox", "  strides: [8, 16, 32]  # CHECK: undecoded", classes) if undecoded else ("yolov5", unit, classes)


def open_exported_classifier(
    path: Path | str, *, device: str = "auto", threads: int = 0, runtime: Runtime | None = None
) -> ExportedClassifier:
    """Open a video classifier in an exported file, one of `CLIP_NETWORKS` by its suffix; the file itself says how it is run.

    device, threads, runtime and errors: those of `open_network`; also ConfigError if there is no metadata, or it is of another schema, or
    wrong, or does not fit the file.
    """
    network = open_network(path, device=device, threads=threads, runtime=runtime, known=CLIP_NETWORKS)
    if network.embedded is None:
        raise _no_classifier(network)
    return ExportedClassifier(network, embedded(ClassifierMetadata, network.embedded, network.path))


def _no_classifier(network: Network) -> ConfigError:
    """What a file without metadata is: a detector by the YAML next to it, a network of pictures, or unknown."""
    with contextlib.suppress(ConfigError):  # no YAML, or one of something else
        read_metadata(Path(network.path).with_suffix(".yaml"))
        return wrong_task("detect", network.path)
    port = network.inputs[0]
    if len(port.shape) == 4 and 3 in (port.shape[1], port.shape[3]):
        reason = f"its input '{port.name}' takes pictures, ({', '.join('?' if side is None else str(side) for side in port.shape)})"
        return ConfigError(
            f"no classifier of clips: {network.path}", reason=reason, hint="vidkd detect --model takes it, if it is a detector"
        )
    reason = f"it holds no metadata of vidkd (entry '{EMBEDDED_KEY}'): classes, frames, sizes"
    return ConfigError(f"nothing says how to run {network.path}", reason=reason, hint=EXPORT_AGAIN)
