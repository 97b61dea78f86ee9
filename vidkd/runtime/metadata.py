"""What must be known about a model's file to run it: the schemas that exported files carry and that side YAMLs are written in."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from vidkd.base.errors import ConfigError
from vidkd.base.records import read_record
from vidkd.runtime.letterbox import ResizeMode

SCHEMA_VERSION = 1
EMBEDDED_KEY = "vidkd"
"""Name of the entry that holds the metadata as JSON inside an exported file."""
EXPORT_AGAIN = "export the checkpoint again: vidkd export --help"

View = Literal["rgb", "flow"]
Layout = Literal["NCHW", "NHWC"]
Colour = Literal["rgb", "bgr"]
HeadStyle = Literal["yolox", "yolov5", "yolov8", "darknet", "boxes"]
BoxUnit = Literal["pixels", "unit"]

CLIP, OBSERVED, LOGITS, ATTENTION = "clip", "observed", "logits", "attention"
"""Names of the inputs and outputs of an exported classifier."""
CHANNELS: dict[View, int] = {"rgb": 3, "flow": 2}
STYLE_KEYS: dict[HeadStyle, tuple[frozenset[str], frozenset[str]]] = {
    "yolox": (frozenset({"strides"}), frozenset()),
    "yolov5": (frozenset({"boxes"}), frozenset()),
    "yolov8": (frozenset({"boxes"}), frozenset()),
    "darknet": (frozenset({"anchors"}), frozenset({"scale_xy"})),
    "boxes": (frozenset({"boxes"}), frozenset()),
}
"""Keys that each style of head needs, and further ones that it may have."""


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """How an RGB uint8 frame becomes the input of a network.

    size: (width, height) in pixels. layout: order of the axes. colour: order of the channels, to which mean and std belong.
    pixel_max: the value of a white pixel before mean and std, 255 or 1; then (pixel - mean) / std.
    resize: a mode of `Letterbox`; fill: the pixel value 0..255 around the picture. name: the input's name, None where it has only one.
    Raises ValueError naming the invalid key.
    """

    size: tuple[int, int]
    layout: Layout
    colour: Colour
    pixel_max: Literal[255, 1]
    resize: ResizeMode
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fill: int = 114
    name: str | None = None

    def __post_init__(self) -> None:
        _require(min(self.size) >= 1, "size", "whole numbers from 1", self.size)
        _require(min(self.std) > 0, "std", "above 0", self.std)
        _require(0 <= self.fill <= 255, "fill", "a whole number in 0..255", self.fill)


@dataclass(frozen=True, kw_only=True)
class Head:
    """How a detector's outputs become boxes; the styles are those of `HEADS`.

    boxes: unit of box coordinates, pixels of the input or parts of its sides in 0..1. strides: input pixels per cell, one per level.
    anchors: for each output a list of (width, height) in input pixels; scale_xy: darknet's scale_x_y of each output, 1 by default.
    outputs: names of the outputs in the order that the style expects; empty for the file's own order.
    Raises ValueError naming the key that is invalid, missing, or without meaning for the style.
    """

    style: HeadStyle
    boxes: BoxUnit | None = None
    strides: tuple[int, ...] = ()
    anchors: tuple[tuple[tuple[float, float], ...], ...] = ()
    scale_xy: tuple[float, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        needed, optional = STYLE_KEYS[self.style]
        for key in ("boxes", "strides", "anchors", "scale_xy"):
            value = getattr(self, key)
            _require(bool(value) or key not in needed, key, f"given for style '{self.style}'", value)
            unused = f"left out for style '{self.style}', which does not use it"
            _require(not value or key in needed | optional, key, unused, value)
        _require(all(stride >= 1 for stride in self.strides), "strides", "whole numbers from 1", self.strides)
        fits = all(level and min(map(min, level)) > 0 for level in self.anchors)
        _require(fits, "anchors", "for each output a list of [width, height] above 0", self.anchors)
        matches = len(self.scale_xy) in (0, len(self.anchors))
        _require(matches, "scale_xy", f"one number for each of the {len(self.anchors)} lists of anchors", self.scale_xy)


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """What running a detector's file needs beyond the file.

    classes: names that labels index. score: detections below it are dropped, in [0, 1]. nms_iou: overlap above which the weaker of two
    boxes of a class is dropped, in [0, 1]; None for a head that suppresses already. version: of this schema. vidkd: the version that wrote
    it, None for files of other tools. Raises ValueError naming the invalid key.
    """

    classes: tuple[str, ...]
    input: InputFormat
    head: Head
    score: float = 0.25
    nms_iou: float | None = 0.45
    task: Literal["detect"] = "detect"
    version: int = SCHEMA_VERSION
    vidkd: str | None = None

    def __post_init__(self) -> None:
        _require(bool(self.classes) and all(self.classes), "classes", "at least one name, none of them empty", self.classes)
        _require(0 <= self.score <= 1, "score", "a number in [0, 1]", self.score)
        _require(self.nms_iou is None or 0 <= self.nms_iou <= 1, "nms_iou", "a number in [0, 1], or null", self.nms_iou)

    def to_json(self) -> str:
        """The text that `embedded` reads."""
        return _json(self)


@dataclass(frozen=True, kw_only=True)
class ClipFormat:
    """The clip that a network takes, (B, C, frames, size, size), raw: RGB uint8, or flow in pixels per flow step as float32.

    mean, std: what the network itself subtracts and divides by, per channel, of values in 0..1 (rgb) or -1..1 (flow); for the reader only.
    bound_px: flow is clipped to +- so many pixels and divided by them, in the network too. Raises ValueError naming the invalid key.
    """

    frames: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bound_px: float | None = None

    def __post_init__(self) -> None:
        if self.frames < 1 or self.size < 1:
            raise ValueError(f"frames and size must be at least 1: {self.frames}, {self.size}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std differ in length: {len(self.mean)} and {len(self.std)}")


@dataclass(frozen=True, kw_only=True)
class ClassifierMetadata:
    """What running a classifier's file needs beyond the file.

    classes: names that the logits index; targets: those of its further labels. observed: it has a second input, the share of the clip that
    is seen. map_shift_cells: displacement of its attention map's grid; None without a map. shown: the settings by which clips are cut,
    resized and cropped for it, as `data` in a run's configuration has them. trained: what is known of its training, for the reader.
    vidkd: the version that wrote it. Raises ValueError naming the invalid key.
    """

    classes: tuple[str, ...]
    view: View
    input: ClipFormat
    shown: Mapping[str, Any]
    vidkd: str
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    observed: bool = False
    map_shift_cells: float | None = None
    trained: Mapping[str, Any] = field(default_factory=dict)
    task: Literal["classify"] = "classify"
    version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for key, names in {"classes": self.classes, **{f"targets.{name}": names for name, names in self.targets.items()}}.items():
            _require(bool(names) and all(names), key, "at least one name, none of them empty", names)
        if len(self.input.mean) != CHANNELS[self.view]:
            raise ValueError(f"input.mean must have {CHANNELS[self.view]} numbers for view {self.view}: {self.input.mean}")
        if (self.input.bound_px is None) == (self.view == "flow"):
            raise ValueError(f"input.bound_px is for flow only: {self.input.bound_px}")

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(C, T, S, S) of one clip."""
        return CHANNELS[self.view], self.input.frames, self.input.size, self.input.size

    def output_sizes(self) -> dict[str, int]:
        """Outputs that hold logits, and how many: those of the classes first, then of the further labels."""
        return {LOGITS: len(self.classes), **{target_output(name): len(names) for name, names in self.targets.items()}}

    def to_json(self) -> str:
        """The text that `embedded` reads."""
        return _json(self)


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
    if given.get("task", kind.task) in OTHER_TASK and given.get("task", kind.task) != kind.task:
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
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"embedded metadata cannot be read: {path}", reason=error, hint=EXPORT_AGAIN) from error
    return metadata_of(kind, content, f"{path} (embedded)")


def _json(metadata: ModelMetadata | ClassifierMetadata) -> str:
    return json.dumps(dataclasses.asdict(metadata), ensure_ascii=False, allow_nan=False)


def _require(holds: bool, key: str, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{key} must be {what}: {value!r}"[:300])
