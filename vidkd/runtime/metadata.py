"""What must be known about a model's file to run it: the schema that exported files carry and that side YAMLs are written in."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from vidkd.base.errors import ConfigError
from vidkd.base.plain import checked_keys
from vidkd.runtime.letterbox import RESIZE_MODES, ResizeMode

SCHEMA_VERSION = 1
EMBEDDED_KEY = "vidkd"
"""Name of the entry that holds `ModelMetadata.to_json()` inside an exported file."""

Task = Literal["detect"]
Layout = Literal["NCHW", "NHWC"]
Colour = Literal["rgb", "bgr"]
HeadStyle = Literal["yolox", "yolov5", "yolov8", "darknet", "boxes"]
BoxUnit = Literal["pixels", "unit"]

# What each style of head must be told beyond its name, and what it may be told.
STYLE_KEYS: dict[HeadStyle, tuple[frozenset[str], frozenset[str]]] = {
    "yolox": (frozenset({"strides"}), frozenset()),
    "yolov5": (frozenset({"boxes"}), frozenset()),
    "yolov8": (frozenset({"boxes"}), frozenset()),
    "darknet": (frozenset({"anchors"}), frozenset({"scale_xy"})),
    "boxes": (frozenset({"boxes"}), frozenset()),
}


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """How an RGB uint8 frame becomes the input of a network.

    size: (width, height) in pixels. layout: order of the axes. colour: order of the channels, to which mean and std belong.
    pixel_max: the value of a white pixel before mean and std, 255 or 1; then (pixel - mean) / std.
    resize: a mode of `Letterbox`; fill: the pixel value 0..255 around the picture. name: the input's name, None where it has only one.
    Raises ValueError naming the key that cannot be.
    """

    size: tuple[int, int]
    layout: Layout
    colour: Colour
    pixel_max: int
    resize: ResizeMode
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fill: int = 114
    name: str | None = None

    def __post_init__(self) -> None:
        _set(self, size=_whole_numbers("size", self.size, count=2), mean=_numbers("mean", self.mean, count=3))
        _set(self, std=_numbers("std", self.std, count=3))
        _one_of("layout", self.layout, get_args(Layout))
        _one_of("colour", self.colour, get_args(Colour))
        _one_of("pixel_max", self.pixel_max, (255, 1))
        _one_of("resize", self.resize, RESIZE_MODES)
        _require(min(self.std) > 0, "std", "above 0", self.std)
        _require(_is_whole(self.fill) and 0 <= self.fill <= 255, "fill", "a whole number in 0..255", self.fill)
        _require(self.name is None or isinstance(self.name, str), "name", "a text", self.name)


@dataclass(frozen=True, kw_only=True)
class Head:
    """How a detector's outputs become boxes; the styles are those of `HEADS`.

    boxes: unit of box coordinates, pixels of the input or parts of its sides in 0..1. strides: input pixels per cell, a level each.
    anchors: for each output a list of (width, height) in input pixels; scale_xy: darknet's scale_x_y of each output, 1 by default.
    outputs: names of the outputs in the order that the style wants; empty for the file's own order.
    Raises ValueError naming the key that cannot be, is missing, or means nothing to the style.
    """

    style: HeadStyle
    boxes: BoxUnit | None = None
    strides: tuple[int, ...] = ()
    anchors: tuple[tuple[tuple[float, float], ...], ...] = ()
    scale_xy: tuple[float, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("style", self.style, tuple(STYLE_KEYS))
        needed, allowed = STYLE_KEYS[self.style]
        for key in ("boxes", "strides", "anchors", "scale_xy"):
            given = getattr(self, key) not in (None, (), [])
            _require(given or key not in needed, key, f"given for style '{self.style}'", getattr(self, key))
            _require(
                not given or key in needed | allowed,
                key,
                f"left out for style '{self.style}', to which it means nothing",
                getattr(self, key),
            )
        if self.boxes is not None:
            _one_of("boxes", self.boxes, get_args(BoxUnit))
        _set(self, strides=_whole_numbers("strides", self.strides), anchors=_anchors(self.anchors))
        _set(self, scale_xy=_numbers("scale_xy", self.scale_xy), outputs=_texts("outputs", self.outputs))
        fits = len(self.scale_xy) in (0, len(self.anchors))
        _require(fits, "scale_xy", f"one number for each of the {len(self.anchors)} lists of anchors", self.scale_xy)


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """All that running a model's file needs beyond the file. task: "detect", the only one of this version of the schema.

    classes: names that labels index. score: detections below it are dropped, in [0, 1]. nms_iou: overlap above which the weaker of two
    boxes of a class falls, in [0, 1]; None for a head that has suppressed already. version: of this schema. vidkd: the version that wrote
    it, None for what others wrote.
    Raises ValueError naming the key that cannot be.
    """

    classes: tuple[str, ...]
    input: InputFormat
    head: Head
    score: float = 0.25
    nms_iou: float | None = 0.45
    task: Task = "detect"
    version: int = SCHEMA_VERSION
    vidkd: str | None = None

    def __post_init__(self) -> None:
        _set(self, classes=_texts("classes", self.classes))
        _require(len(self.classes) > 0, "classes", "at least one name", self.classes)
        _one_of("task", self.task, get_args(Task))
        _require(_is_share(self.score), "score", "a number in [0, 1]", self.score)
        _require(self.nms_iou is None or _is_share(self.nms_iou), "nms_iou", "a number in [0, 1], or null", self.nms_iou)
        _require(self.vidkd is None or isinstance(self.vidkd, str), "vidkd", "a text", self.vidkd)
        _require(self.version == SCHEMA_VERSION, "version", f"{SCHEMA_VERSION}, which this vidkd reads", self.version)

    def to_json(self) -> str:
        """The text that `from_mapping` reads again after json.loads; classes are written out."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_mapping(cls, content: object, where: str) -> "ModelMetadata":
        """Strictly from what YAML or JSON gave. Raises ConfigError naming `where` and the key: unknown, missing, or of a wrong value."""
        if isinstance(content, Mapping) and content.get("task") == "classify":
            raise ConfigError(
                f"a classifier, not a detector: {where}",
                to_mend="vidkd predict --checkpoint takes it (to judge it: vidkd evaluate --checkpoint)",
            )
        if isinstance(content, Mapping) and (schema := content.get("version", SCHEMA_VERSION)) != SCHEMA_VERSION:
            raise ConfigError(
                f"metadata of another version of vidkd: {where}",
                found=f"schema {schema!r}"[:80] + (f", written by vidkd {content['vidkd']}"[:60] if content.get("vidkd") else ""),
                read_here=f"schema {SCHEMA_VERSION}",
                to_mend="export it again with this vidkd, or run it with that one",
            )
        keys = checked_keys(cls, content, where, prefix="")
        parts = {
            "input": _build(InputFormat, checked_keys(InputFormat, keys["input"], where, prefix="input."), where, "input."),
            "head": _build(Head, checked_keys(Head, keys["head"], where, prefix="head."), where, "head."),
        }
        return _build(cls, {**keys, **parts}, where, "")


_Part = TypeVar("_Part", InputFormat, Head, ModelMetadata)


def _build(kind: type[_Part], keys: dict[str, Any], where: str, prefix: str) -> _Part:
    try:
        return kind(**keys)
    except ValueError as error:
        raise ConfigError(f"{prefix}{error}", where=where) from None


def _set(part: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(part, name, value)


def _require(holds: bool, key: str, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{key} must be {what}: {value!r}"[:300])


def _one_of(key: str, value: object, options: Sequence[object]) -> None:
    # `True == 1` and a list cannot be hashed: compared by type as well, and one by one.
    holds = any(type(value) is type(option) and value == option for option in options)
    _require(holds, key, "one of " + ", ".join(map(str, options)), value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and 0 <= value <= 1


def _numbers(key: str, value: object, count: int | None = None) -> tuple[float, ...]:
    items = value if isinstance(value, list | tuple) else ()
    holds = isinstance(value, list | tuple) and all(map(_is_number, items)) and count in (None, len(items))
    _require(holds, key, f"a list of {count or ''} numbers".replace("  ", " "), value)
    return tuple(float(item) for item in items)


def _whole_numbers(key: str, value: object, count: int | None = None) -> tuple[int, ...]:
    numbers = _numbers(key, value, count)
    _require(all(number >= 1 and number == int(number) for number in numbers), key, "whole numbers from 1", value)
    return tuple(int(number) for number in numbers)


def _texts(key: str, value: object) -> tuple[str, ...]:
    items: Iterable[object] = value if isinstance(value, list | tuple) else ()
    holds = isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in items)
    _require(holds, key, "a list of names, in quotes where YAML would read a number or yes/no", value)
    return tuple(str(item) for item in items)


def _anchors(value: object) -> tuple[tuple[tuple[float, float], ...], ...]:
    what = "for each output a list of [width, height] above 0"
    _require(isinstance(value, list | tuple), "anchors", what, value)
    levels = [level if isinstance(level, list | tuple) else () for level in (value if isinstance(value, list | tuple) else ())]
    _require(all(levels), "anchors", what, value)
    pairs = tuple(tuple(_numbers("anchors", pair, count=2) for pair in level) for level in levels)
    _require(all(min(pair) > 0 for level in pairs for pair in level), "anchors", what, value)
    return tuple(tuple((pair[0], pair[1]) for pair in level) for level in pairs)
