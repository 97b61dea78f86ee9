"""Darknet cfg files: text to typed blocks, strictly, and back.

The format is darknet's (https://pjreddie.com/darknet and its AlexeyAB fork), defaults included. Whatever would change the network and is
not known here is an error, where darknet would ignore it; options that only darknet's trainer reads are listed by name and kept.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.files import reason_of
from vidkd.models.darknet.blocks import (
    ACTIVATIONS,
    Activation,
    Convolutional,
    DarknetConfig,
    Dropout,
    Layer,
    Maxpool,
    Net,
    Route,
    Shortcut,
    Upsample,
    Yolo,
)

Value = TypeVar("Value")
REQUIRED: Final[Any] = object()

ALIASES = {"network": "net", "conv": "convolutional", "max": "maxpool"}

# Sections of darknet that are no part of the detectors built here: named so that they are not taken for misspelt ones.
UNSUPPORTED = {
    *("activation", "avg", "avgpool", "batchnorm", "connected", "contrastive", "cost", "crnn", "crop", "deconvolutional", "detection"),
    *("gaussian_yolo", "gru", "implicit", "iseg", "local", "local_avgpool", "logistic", "lstm", "normalization", "region", "reorg"),
    *("reorg3d", "rnn", "sam", "scale_channels", "softmax", "sampler", "yolo_segmentation"),
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Options that darknet's trainer and its drawing read and that leave the network unchanged: allowed in a cfg, kept, never used.
NET_TRAINING = _words("""
    adam angle aspect attention augment_speed b1 b2 batch blur burn_in center cutmix decay dynamic_minibatch ema_alpha ema_start_iters eps
    exposure flip gaussian_noise hue learning_rate letter_box loss_scale max_batches max_chart_loss max_crop min_crop mixup momentum mosaic
    mosaic_bound noadjust num_sigmas_reject_badlabels object_skip optimized_memory policy power random resize_step saturation scale scales
    seq_scales sgdr_cycle sgdr_mult show_receptive_field step steps subdivisions time_steps track weights_reject_freq
""")

LAYER_TRAINING = _words("burnin_update decay learning_rate momentum onlyforward stopbackward train_only_bn")

YOLO_TRAINING = _words("""
    beta_nms cls_normalizer counters_per_class delta_normalizer focal_loss ignore_thresh iou_loss iou_normalizer iou_thresh iou_thresh_kind
    jitter label_smooth_eps map max max_delta nms_kind obj_normalizer objectness_smooth random resize show_details track_history_size
    truth_thresh
""")


def read_cfg(path: Path | str) -> DarknetConfig:
    """A cfg file as typed blocks. Raises ConfigError with file:line if it is missing or holds something that is not understood."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read cfg {path}", reason=reason_of(error), hint="give the path of a darknet cfg file") from error
    return parse_cfg(text, path)


def parse_cfg(text: str, path: Path | None = None) -> DarknetConfig:
    """`read_cfg` for text. path: the file that messages name."""
    sections = list(_sections(text, str(path or "<cfg>")))
    if not sections or sections[0].name != "net":
        raise ConfigError("a cfg begins with [net]", where=sections[0].where() if sections else path or "<cfg>")
    net, *layers = sections
    width, height, channels = (net.take(side, whole, least=1) for side in ("width", "height", "channels"))
    size = Net(width=width, height=height, channels=channels, **net.rest(NET_TRAINING))
    return DarknetConfig(net=size, layers=tuple(map(_layer, layers)), path=path)


@dataclass
class Section:
    """One section while it is read. given: the text and the line of each option. Reading methods raise ConfigError with `file:line`."""

    name: str
    path: str
    line: int
    given: dict[str, tuple[str, int]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def take(self, name: str, parse: Callable[[str], Value], default: Value = REQUIRED, *, least: float | None = None) -> Value:
        """The value of an option; without a default it must be there. parse: raises ValueError with what a value must be."""
        self.asked.add(name)
        if name not in self.given:
            if default is REQUIRED:
                raise ConfigError(f"[{self.name}] has no '{name}'", where=self.where())
            return default
        text, line = self.given[name]
        try:
            value = parse(text)
            if least is not None and value < least:  # type: ignore[operator]  # given for numbers only
                raise ValueError(f"must be at least {least:g}")
        except ValueError as error:
            raise ConfigError(f"{name} of [{self.name}] {error}, not '{text}'", where=self.where(line)) from None
        return value

    def activation(self, default: Activation) -> Activation:
        """The option `activation`."""
        text = self.take("activation", str, str(default))
        for known in ACTIVATIONS:
            if known == text:
                return known
        raise unknown_name("activation", text, ACTIVATIONS, where=self.where(self.given["activation"][1]))

    def refuse(self, name: str, neutral: float, reason: str) -> None:
        """Raise ConfigError if the option has a value other than the one that changes nothing."""
        if self.take(name, real, neutral) != neutral:
            text, line = self.given[name]
            raise ConfigError(f"{name}={text} in [{self.name}] is not supported: {reason}", where=self.where(line))

    def rest(self, training: frozenset[str]) -> dict[str, Any]:
        """What every block has. Raises ConfigError for an option not asked for that is none of `training`, naming the nearest."""
        left = {name: given for name, given in self.given.items() if name not in self.asked}
        for name, (_, line) in left.items():
            if name not in training:
                raise unknown_name(f"option of [{self.name}]", name, training | self.asked, where=self.where(line))
        return {"training": tuple((name, text) for name, (text, _) in left.items()), "line": self.line}

    def where(self, line: int | None = None) -> str:
        """`file:line` of a line of this section, by default its first."""
        return f"{self.path}:{line or self.line}"

    def wrong(self, what: str) -> ConfigError:
        """The error of options that do not fit together."""
        return ConfigError(what, where=self.where())


def whole(text: str) -> int:
    """A whole number of 32 bits."""
    try:
        value = int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None
    if abs(value) >= 2**31:
        raise ValueError("must be a number of 32 bits")
    return value


def wholes(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    return tuple(map(whole, _parts(text)))


def flag(text: str) -> bool:
    """0 or 1."""
    if text not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return text == "1"


def real(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("must be a number")
    return value


def pairs(text: str) -> tuple[tuple[float, float], ...]:
    """Numbers above 0 with commas between them, two by two."""
    values = list(map(real, _parts(text)))
    if len(values) % 2 or min(values) <= 0:
        raise ValueError("must be pairs of numbers above 0: width, height, width, height")
    return tuple(zip(values[::2], values[1::2], strict=True))


def _parts(text: str) -> list[str]:
    """The items of a list; a comma at its end is allowed, as darknet does."""
    return [part.strip() for part in text.removesuffix(",").split(",")]


def _sections(text: str, path: str) -> Iterator[Section]:
    section: Section | None = None
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        line, where = raw.split("#")[0].strip(), f"{path}:{number}"
        if not line or line.startswith(";"):
            continue
        if line.startswith("["):
            if section:
                yield section
            if not line.endswith("]"):
                raise ConfigError(f"the name of a section is not closed by a bracket: '{line}'", where=where)
            name = line[1:-1].strip().lower()
            section = Section(ALIASES.get(name, name), path, number)
            continue
        name, _, value = (part.strip() for part in line.partition("="))
        if section is None or not name or not value:
            raise ConfigError(f"neither a [section] nor an option=value of one: '{line}'", where=where)
        if name in section.given:
            raise ConfigError(f"'{name}' occurs twice in [{section.name}]", where=where, first=section.given[name][1])
        section.given[name] = (value, number)
    if section:
        yield section


def _layer(section: Section) -> Layer:
    if section.name in READERS:
        return READERS[section.name](section)
    if section.name in UNSUPPORTED:
        known = ", ".join(sorted(READERS))
        raise ConfigError(f"[{section.name}] is not supported: detectors with [yolo] heads only", where=section.where(), known=known)
    raise unknown_name("section", section.name, READERS, where=section.where())


def _convolutional(section: Section) -> Convolutional:
    size, padding = section.take("size", whole, 1, least=1), section.take("padding", whole, 0, least=0)
    filters, groups = (section.take(name, whole, 1, least=1) for name in ("filters", "groups"))
    if filters % groups:
        raise section.wrong(f"filters={filters} cannot be shared by groups={groups}")
    return Convolutional(
        batch_normalize=section.take("batch_normalize", flag, False),
        filters=filters,
        size=size,
        stride=section.take("stride", whole, 1, least=1),
        padding=size // 2 if section.take("pad", flag, False) else padding,
        groups=groups,
        dilation=section.take("dilation", whole, 1, least=1),
        activation=section.activation("logistic"),
        **section.rest(LAYER_TRAINING),
    )


def _maxpool(section: Section) -> Maxpool:
    stride = section.take("stride", whole, 1, least=1)
    size = section.take("size", whole, stride, least=1)
    padding = section.take("padding", whole, size - 1, least=0)
    if padding >= size:
        raise section.wrong(f"padding={padding} must be below the size of the window, {size}")
    return Maxpool(size=size, stride=stride, padding=padding, **section.rest(LAYER_TRAINING))


def _upsample(section: Section) -> Upsample:
    section.refuse("scale", 1, "values would be multiplied")
    return Upsample(stride=section.take("stride", whole, 2, least=1), **section.rest(LAYER_TRAINING))


def _route(section: Section) -> Route:
    groups, group_id = section.take("groups", whole, 1, least=1), section.take("group_id", whole, 0, least=0)
    if group_id >= groups:
        raise section.wrong(f"group_id={group_id} is not one of groups={groups}, counted from 0")
    return Route(layers=section.take("layers", wholes), groups=groups, group_id=group_id, **section.rest(LAYER_TRAINING))


def _shortcut(section: Section) -> Shortcut:
    return Shortcut(from_layer=section.take("from", whole), activation=section.activation("linear"), **section.rest(LAYER_TRAINING))


def _dropout(section: Section) -> Dropout:
    section.refuse("dropblock", 0, "only single values are dropped here")
    probability = section.take("probability", real, 0.5, least=0)
    if probability >= 1:
        raise section.wrong(f"probability of [dropout] must be below 1, not {probability:g}")
    return Dropout(probability=probability, **section.rest(LAYER_TRAINING))


def _yolo(section: Section) -> Yolo:
    reason = "its boxes are not decoded by sigmoid and exponential; convert the network or train one with new_coords=0"
    section.refuse("new_coords", 0, reason)
    anchors, count = section.take("anchors", pairs), section.take("num", whole, 1, least=1)
    if count != len(anchors):
        raise section.wrong(f"num={count}, but [yolo] lists {len(anchors)} anchors")
    mask = section.take("mask", wholes, tuple(range(count)))
    if not set(mask) <= set(range(count)) or len(set(mask)) != len(mask):
        raise section.wrong(f"mask={','.join(map(str, mask))} must name anchors from 0 to {count - 1}, each once")
    classes, scale = section.take("classes", whole, 20, least=1), section.take("scale_x_y", real, 1.0, least=1)
    return Yolo(mask=mask, anchors=anchors, classes=classes, scale_x_y=scale, **section.rest(YOLO_TRAINING))


READERS: dict[str, Callable[[Section], Layer]] = {
    "convolutional": _convolutional,
    "maxpool": _maxpool,
    "upsample": _upsample,
    "route": _route,
    "shortcut": _shortcut,
    "dropout": _dropout,
    "yolo": _yolo,
}


def to_cfg(config: DarknetConfig) -> str:
    """The text of a cfg that reads as `config` again, options of training included; darknet and OpenCV read it too."""
    return "\n".join("\n".join(_written(block)) + "\n" for block in (config.net, *config.layers))


def _written(block: Net | Layer) -> Iterator[str]:
    yield f"[{block.section}]"
    for part in dataclasses.fields(block):
        value = getattr(block, part.name)
        if part.name not in ("training", "line") and not _implied(block, part.name, value):
            yield _written_option(block, part.name, value)
    if isinstance(block, Yolo):
        yield f"num={len(block.anchors)}"
    yield from (f"{name}={text}" for name, text in block.training)


# Where every reader agrees on the default. They do not on that of activation, stride and classes, so those are always written.
_ABSENT: dict[str, object] = {"batch_normalize": False, "padding": 0, "groups": 1, "group_id": 0, "dilation": 1, "scale_x_y": 1.0}


def _implied(block: Net | Layer, name: str, value: object) -> bool:
    if isinstance(block, Maxpool) and name == "padding":
        return value == block.size - 1
    return name in _ABSENT and value == _ABSENT[name]


def _written_option(block: Net | Layer, name: str, value: object) -> str:
    if isinstance(block, Convolutional) and name == "padding" and value == block.size // 2:
        return "pad=1"  # what other readers of cfg files know best
    if isinstance(block, Yolo) and name == "anchors":
        return f"anchors={', '.join(f'{_number(width)},{_number(height)}' for width, height in block.anchors)}"
    if isinstance(value, tuple):
        return f"{name}={','.join(map(str, value))}"
    return f"{name.removesuffix('_layer')}={int(value) if isinstance(value, bool) else value}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
