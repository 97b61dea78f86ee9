"""What must be known about a model's file to run it: the schemas that exported files carry and that side YAMLs are written in.

Read from the JSON inside a file, or from such a YAML.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from vidkd.base.errors import ConfigError
from vidkd.base.fields import Bounds, Count, Positive, Share
from vidkd.base.files import parse_json, reason_of
from vidkd.base.records import read_record
from vidkd.base.yaml_files import read_yaml
from vidkd.runtime.letterbox import ResizeMode

SCHEMA_VERSION = 1
# Name of the entry that holds the metadata as JSON inside an exported file.
EMBEDDED_KEY = "vidkd"
EXPORT_AGAIN = "export the checkpoint again: vidkd export --help"

View = Literal["rgb", "flow"]
HeadStyle = Literal["yolox", "yolov5", "yolov8", "darknet", "boxes"]
Names = Annotated[tuple[str, ...], Bounds(min_length=1)]

# Names of the inputs and outputs of an exported classifier.
CLIP, OBSERVED, LOGITS, ATTENTION = "clip", "observed", "logits", "attention"
# The key that each style of head needs.
STYLE_KEYS: dict[HeadStyle, str] = {"yolox": "strides", "yolov5": "boxes", "yolov8": "boxes", "darknet": "anchors", "boxes": "boxes"}


class _Metadata:
    def to_json(self) -> str:
        """The text that `embedded` reads."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """How an RGB uint8 frame becomes the input of a network.

    size: (width, height) in pixels. layout: order of the axes. colour: order of the channels, to which mean and std belong.
    pixel_max: the value of a white pixel before mean and std, 255 or 1; then (pixel - mean) / std.
    resize: a mode of `Letterbox`; fill: the pixel value 0..255 around the picture. name: the input's name, None where it has only one.
    """

    size: tuple[Count, Count]
    layout: Literal["NCHW", "NHWC"]
    colour: Literal["rgb", "bgr"]
    pixel_max: Literal[255, 1]
    resize: ResizeMode
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    fill: Annotated[int, Bounds(ge=0, le=255)] = 114
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Head:
    """How a detector's outputs become boxes; the styles are those of `HEADS`.

    boxes: unit of box coordinates, pixels of the input or parts of its sides in 0..1. strides: input pixels per cell, one per level.
    anchors: for each output a list of (width, height) in input pixels; scale_xy: darknet's scale_x_y of each output, 1 by default.
    outputs: names of the outputs in the order that the style expects; empty for the file's own order.
    Raises ValueError naming the key that is missing, or without meaning for the style.
    """

    style: HeadStyle
    boxes: Literal["pixels", "unit"] | None = None
    strides: tuple[Count, ...] = ()
    anchors: tuple[tuple[tuple[Positive, Positive], ...], ...] = ()
    scale_xy: tuple[float, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        needed = STYLE_KEYS[self.style]
        for key in ("boxes", "strides", "anchors", "scale_xy"):
            value = getattr(self, key)
            if key == needed and not value:
                raise ValueError(f"{key} must be given for style '{self.style}'")
            if value and key != needed and (needed, key) != ("anchors", "scale_xy"):
                raise ValueError(f"{key} must be left out for style '{self.style}', which does not use it: {value!r}"[:300])
        if len(self.scale_xy) not in (0, len(self.anchors)):
            raise ValueError(f"scale_xy must be one number for each of the {len(self.anchors)} lists of anchors: {self.scale_xy}")


@dataclass(frozen=True, kw_only=True)
class ModelMetadata(_Metadata):
    """What running a detector's file needs beyond the file.

    classes: names that labels index. score: detections below it are dropped. nms_iou: overlap above which the weaker of two boxes of a
    class is dropped; None for a head that suppresses already. version: of this schema. vidkd: the version that wrote it, None for files of
    other tools.
    """

    classes: Names
    input: InputFormat
    head: Head
    score: Share = 0.25
    nms_iou: Share | None = 0.45
    task: Literal["detect"] = "detect"
    version: int = SCHEMA_VERSION
    vidkd: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClipFormat:
    """The clip that a network takes, (B, C, frames, size, size), raw: RGB uint8, or flow in pixels per flow step as float32.

    C is 3, or 2 for each flow field of a frame.

    mean, std: what the network itself subtracts and divides by, per channel, of values in 0..1 (rgb) or -1..1 (flow); for the reader only.
    bound_px: flow is clipped to +- so many pixels and divided by them, in the network too; None for rgb.
    """

    frames: Count
    size: Count
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bound_px: float | None = None


@dataclass(frozen=True, kw_only=True)
class ClassifierMetadata(_Metadata):
    """What running a classifier's file needs beyond the file.

    classes: names that the logits index; targets: those of its further labels. observed: it has a second input, the share of the clip that
    is seen. map_shift_cells: displacement of its attention map's grid; None without a map. shown: the settings by which clips are cut,
    resized and cropped for it, as `data` in a run's configuration has them. trained: what is known of its training, for the reader.
    vidkd: the version that wrote it.
    """

    classes: Names
    view: View
    input: ClipFormat
    shown: Mapping[str, Any]
    vidkd: str
    targets: Mapping[str, Names] = field(default_factory=dict)
    observed: bool = False
    map_shift_cells: float | None = None
    trained: Mapping[str, Any] = field(default_factory=dict)
    task: Literal["classify"] = "classify"
    version: int = SCHEMA_VERSION

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(C, T, S, S) of one clip."""
        return len(self.input.mean), self.input.frames, self.input.size, self.input.size

    def output_sizes(self) -> dict[str, int]:
        """Outputs that hold logits, and how many: those of the classes first, then of the further labels."""
        return {LOGITS: len(self.classes), **{target_output(name): len(names) for name, names in self.targets.items()}}


Metadata = TypeVar("Metadata", ModelMetadata, ClassifierMetadata)
OTHER_TASK = {
    "classify": ("a classifier, not a detector", "vidkd predict --model takes it (to judge it: vidkd evaluate --model)"),
    "detect": ("a detector, not a classifier", "vidkd detect --model takes it (to judge it: vidkd evaluate --model)"),
}


def target_output(name: str) -> str:
    """The output that holds the logits of a further label."""
    return f"target_{name}"


def metadata_of(kind: type[Metadata], content: object, where: str) -> Metadata:
    """Metadata from what YAML or JSON gave.

    Raises ConfigError naming `where` and, where it is wrong, the key; for metadata of another task or of another version of the schema.
    """
    given = content if isinstance(content, Mapping) else {}
    if given.get("task") in OTHER_TASK.keys() - {kind.task}:
        raise wrong_task(given["task"], where)
    if given.get("version", SCHEMA_VERSION) != SCHEMA_VERSION:
        writer = f", written by vidkd {given['vidkd']}"[:60] if given.get("vidkd") else ""
        raise ConfigError(
            f"metadata of another version of vidkd: {where}",
            found=f"schema {given['version']!r}"[:80] + writer,
            read_here=f"schema {SCHEMA_VERSION}",
            hint=f"{EXPORT_AGAIN}; or run it with that version",
        )
    return read_record(kind, content, where)


def wrong_task(task: str, where: str) -> ConfigError:
    """The error for a file of this task where one of the other is expected."""
    what, mend = OTHER_TASK[task]
    return ConfigError(f"{what}: {where}", hint=mend)


def embedded(kind: type[Metadata], text: str, path: str) -> Metadata:
    """The metadata that the file `path` carries as JSON. Raises ConfigError naming the file if it is no JSON, and as `metadata_of`."""
    content = parse_json(text, path, what="embedded metadata cannot be read", kind=ConfigError, hint=EXPORT_AGAIN)
    return metadata_of(kind, content, f"{path} (embedded)")


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
