"""Where the metadata of a model's file comes from: the file itself, or the YAML beside it; and the YAML to write where there is none."""

import json
from pathlib import Path

import yaml

from vidkd.base.errors import ConfigError
from vidkd.base.files import reason_of
from vidkd.runtime.embedded import embedded_content
from vidkd.runtime.metadata import ModelMetadata
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
        return ModelMetadata.from_mapping(embedded_content(network.embedded, network.path), f"{network.path} (embedded)")
    beside = Path(network.path).with_suffix(".yaml")
    if beside.exists():
        return _read(beside, network)
    raise _nothing_said(
        network, f"the file itself and {beside}", f"write {beside.name} beside it, or elsewhere and name it as its metadata"
    )


def _read(path: Path, network: Network) -> ModelMetadata:
    """As `read_metadata`; a file without a word is none, and shows the YAML to write."""
    if path.is_file() and not path.stat().st_size:
        raise _nothing_said(network, f"{path}, which is empty", f"write it into {path.name}")
    return read_metadata(path)


def _nothing_said(network: Network, looked_in: str, mend: str) -> ConfigError:
    return ConfigError(
        f"nothing says how to run {network.path}",
        looked_in=looked_in,
        to_mend=f"{mend}; CHECK marks what the file does not tell, its source does:\n\n{template(network)}",
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
    return ModelMetadata.from_mapping(content, str(path))


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


INPUTS_OF_STYLE = {"yolox": ("bgr", 255, "top_left")}
"""Colour, white and resize of the code that published a head, where they differ from the usual ones."""


def template(network: Network) -> str:
    """A side YAML for this file: sizes and style as its inputs and outputs show them, `CHECK` where they do not tell.

    Under `CHECK` stands what the code that published the style does, YOLOX's colours and pixels among them.
    """
    port = network.inputs[0]
    nhwc = len(port.shape) == 4 and port.shape[3] == 3
    height, width = _sides(port, nhwc=nhwc)
    head, classes = _head_lines(network, width, height)
    count = f", {classes} names" if classes else ""
    colour, white, resize = INPUTS_OF_STYLE.get(head[0].split()[1], ("rgb", 1, "centre"))
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
    return "\n".join(lines)


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
