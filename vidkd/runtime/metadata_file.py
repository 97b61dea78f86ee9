"""Where the metadata of a model's file comes from: the file itself, or the YAML next to it; and the YAML to write where there is none."""

import json
from pathlib import Path

from vidkd.base.errors import ConfigError
from vidkd.base.files import reason_of
from vidkd.base.yaml_files import read_yaml
from vidkd.runtime.metadata import ModelMetadata, embedded, metadata_of
from vidkd.runtime.network import Network

# Styles of head for which configs/detectors has YAMLs: of ONNX files, and with the ending _tflite those of TFLite files.
READY = ("yolox", "yolov5", "yolov8")


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


def read_metadata(path: Path | str) -> ModelMetadata:
    """The metadata of a YAML file; `classes` is a list of names, or the path of a file of names, relative to the YAML.

    Raises ConfigError naming file and key.
    """
    content = read_yaml(path).content
    if isinstance(content.get("classes"), str):
        content["classes"] = list(read_names(Path(path).parent / content["classes"]))
    return metadata_of(ModelMetadata, content, str(path))


def read_names(path: Path | str) -> tuple[str, ...]:
    """Class names of a file with one a line; empty lines at its end do not count. Raises ConfigError if missing, empty or with a gap."""
    try:
        names = [line.strip() for line in Path(path).read_text(encoding="utf-8").rstrip().splitlines()]
    except FileNotFoundError:
        raise ConfigError(f"file of class names not found: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read class names: {path}", reason=reason_of(error)) from error
    if not names or not all(names):
        found = f"an empty line at {path}:{names.index('') + 1}" if names else f"{path} is empty"
        raise ConfigError("a file of class names has a name on every line", found=found)
    return tuple(names)


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
