"""Where the metadata of a model's file comes from: the file itself, or the YAML beside it; and the YAML to write where there is none."""

import json
from pathlib import Path

import yaml

from vidkd.base.errors import ConfigError
from vidkd.base.files import reason_of
from vidkd.runtime.metadata import ModelMetadata, embedded, metadata_of
from vidkd.runtime.network import Network, Port


def find_metadata(network: Network, given: ModelMetadata | Path | str | None = None) -> ModelMetadata:
    """What is given (metadata, or the path of a YAML); else what the file carries; else `model.yaml` beside `model.onnx`.

    Raises ConfigError if it is wrong, naming file and key; with none of the three, showing the YAML to write.
    """
    if isinstance(given, ModelMetadata):
        return given
    if given is not None:
        return _read(Path(given), network)
    if network.embedded is not None:
        return embedded(ModelMetadata, network.embedded, network.path)
    beside = Path(network.path).with_suffix(".yaml")
    if beside.exists():
        return _read(beside, network)
    raise _no_metadata(network, f"the file itself and {beside}", beside)


def _read(path: Path, network: Network) -> ModelMetadata:
    """As `read_metadata`; for an empty file the error shows the YAML to write."""
    if path.is_file() and not path.stat().st_size:
        raise _no_metadata(network, f"{path}, which is empty", path)
    return read_metadata(path)


def _no_metadata(network: Network, looked_in: str, beside: Path) -> ConfigError:
    ready, text = template(network)
    start = f"vidkd config cp detectors/{ready}.yaml {beside}" if ready else f"write {beside}"
    return ConfigError(
        f"nothing says how to run {network.path}",
        looked_in=looked_in,
        hint=f"{start}, then compare it with this one; CHECK marks what the file does not show and its source does:\n\n{text}",
    )


def read_metadata(path: Path | str) -> ModelMetadata:
    """The metadata of a YAML file; `classes` is a list of names, or the path of a file of names, relative to the YAML.

    Raises ConfigError naming file and key.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"metadata file not found: {path}") from None
    except OSError as error:
        raise ConfigError(f"cannot read metadata file: {path}", reason=reason_of(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"not a YAML file: {path}", reason=" ".join(str(error).split())) from error
    if isinstance(content, dict) and isinstance(content.get("classes"), str):
        content["classes"] = list(read_names(path.parent / content["classes"]))
    return metadata_of(ModelMetadata, content, str(path))


def read_names(path: Path | str) -> tuple[str, ...]:
    """Class names of a file with one a line; empty lines at its end do not count. Raises ConfigError if missing, empty or with a gap."""
    path = Path(path)
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
    except FileNotFoundError:
        raise ConfigError(f"file of class names not found: {path}") from None
    except OSError as error:
        raise ConfigError(f"cannot read class names: {path}", reason=reason_of(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"not a text file of class names: {path}", reason=error) from error
    if not names or not all(names):
        where = f"{path}:{names.index('') + 1}" if names else str(path)
        raise ConfigError(
            "a file of class names has a name on every line", found=f"an empty line at {where}" if names else f"{path} is empty"
        )
    return tuple(names)


READY = ("yolox", "yolov5", "yolov8")
"""Styles of head for which configs/detectors has YAMLs: of ONNX files, and with the ending _tflite those of TFLite files."""
INPUTS_OF_STYLE = {"yolox": ("bgr", 255, "top_left")}
"""Colour, white and resize of the code that published a head, where they differ from the usual ones."""


def template(network: Network) -> tuple[str, str]:
    """The name of the shipped YAML for such a file ("" without one), and a side YAML for this file.

    Sizes are as its inputs and outputs show them; a value that they do not show is marked `CHECK` and is that of the code that published
    the style, YOLOX's colours and pixels among them.
    """
    port = network.inputs[0]
    nhwc = len(port.shape) == 4 and port.shape[3] == 3
    height, width = _sides(port, nhwc=nhwc)
    head, classes = _head_lines(network, width, height)
    count = f", {classes} names" if classes else ""
    style = head[0].split()[1]
    colour, white, resize = INPUTS_OF_STYLE.get(style, ("rgb", 1, "centre"))
    lines = [
        "version: 1",
        "task: detect",
        f"classes: classes.names  # CHECK: a file with one name a line{count}; or a list here",
        "input:",
        f"  name: {json.dumps(port.name)}",
        f"  size: [{width}, {height}]" + ("" if None not in port.shape[1:] else "  # CHECK: width and height, which the file leaves open"),
        f"  layout: {'NHWC' if nhwc else 'NCHW'}",
        f"  colour: {colour}  # CHECK: rgb or bgr",
        f"  pixel_max: {white}  # CHECK: white is 1 or 255, before mean and std",
        "  mean: [0, 0, 0]  # CHECK",
        "  std: [1, 1, 1]  # CHECK",
        f"  resize: {resize}  # CHECK: centre (YOLOv5, YOLOv8), top_left (YOLOX), darknet, stretch",
        "  fill: 114",
        "head:",
        *head,
        "score: 0.25",
        "nms_iou: 0.45  # null where the model suppresses by itself",
    ]
    shipped = f"{style}{'_tflite' * nhwc}" if style in READY else ""
    return shipped, "\n".join(lines)


def _sides(port: Port, *, nhwc: bool) -> tuple[int, int]:
    height, width = (port.shape[1:3] if nhwc else port.shape[2:4]) if len(port.shape) == 4 else (None, None)
    return height or 640, width or 640


def _head_lines(network: Network, width: int, height: int) -> tuple[list[str], int | None]:
    """The lines under `head:`, and the number of classes that the outputs hold; None where they do not tell."""
    names = [output.name for output in network.outputs]
    shapes = [output.shape for output in network.outputs]
    outputs = f"  outputs: [{', '.join(map(json.dumps, names))}]"
    if len(shapes) == 1 and len(shapes[0]) == 3:
        return _single_output(shapes[0][1], shapes[0][2], width, height)
    if all(len(shape) == 4 for shape in shapes):
        return [
            "  style: darknet  # CHECK",
            outputs,
            f"  anchors: [{', '.join(['[[10, 14], [23, 27]]'] * len(shapes))}]  # CHECK: those of the cfg",
        ], None
    return ["  style: boxes  # CHECK", f"{outputs}  # CHECK: boxes, scores, labels", "  boxes: pixels  # CHECK: pixels or unit"], None


def _single_output(first: int | None, second: int | None, width: int, height: int) -> tuple[list[str], int | None]:
    unit = "  boxes: pixels  # CHECK: pixels of the input, or unit (0..1)"
    if first is not None and (second is None or first < second):
        return ["  style: yolov8  # CHECK", unit], first - 4
    if second == 6:
        return ["  style: boxes  # CHECK", unit], None
    cells = sum((width // stride) * (height // stride) for stride in (8, 16, 32))
    style = ["  style: yolox  # CHECK: undecoded", "  strides: [8, 16, 32]"] if first == cells else ["  style: yolov5  # CHECK", unit]
    return style, None if second is None else second - 5
