"""Darknet cfg files: text to typed blocks, strictly, and back.

A block says what a layer computes; its fields have darknet's option names. `training` keeps the options that only darknet's own trainer
reads, as (name, text) in the order of the file. `line` is where the section begins in its file, 0 for one made in code; two blocks that
differ in nothing else are equal.

The format is darknet's (https://pjreddie.com/darknet and its AlexeyAB fork), defaults included. Whatever would change the network and is
not known here is an error, where darknet would ignore it; options that only darknet's trainer reads are listed by name and kept.
Values that make no network (no filters, groups that do not divide them) are found when it is traced, see `vidkd.models.darknet.graph`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.files import reason_of

Activation = Literal["linear", "leaky", "relu", "relu6", "mish", "logistic", "swish"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

VALUES_BEFORE_CLASSES = 5
"""x, y, w, h and objectness of a box, before its classes."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """What every section has."""

    section: ClassVar[str]

    training: tuple[tuple[str, str], ...] = ()
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Net(Block):
    """[net]: width and height of the input in pixels, and its channels."""

    section = "net"

    width: int
    height: int
    channels: int


@dataclass(frozen=True, kw_only=True)
class Convolutional(Block):
    """[convolutional]: convolution, batch normalisation (or a bias), activation. padding: pixels on every side, before dilation."""

    section = "convolutional"

    batch_normalize: bool = False
    filters: int = 1
    size: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    dilation: int = 1
    activation: Activation = "logistic"


@dataclass(frozen=True, kw_only=True)
class Maxpool(Block):
    """[maxpool]: padding counts both sides together; half of it, rounded down, is to the left and above."""

    section = "maxpool"

    size: int
    stride: int
    padding: int


@dataclass(frozen=True, kw_only=True)
class Upsample(Block):
    """[upsample]: every value repeated stride x stride times."""

    section = "upsample"

    stride: int = 2


@dataclass(frozen=True, kw_only=True)
class Route(Block):
    """[route]: the outputs of `layers` one behind the other; of each only part group_id of `groups` equal parts of its channels.

    A negative number counts back from this layer, another one counts from 0 at the first layer.
    """

    section = "route"

    layers: tuple[int, ...]
    groups: int = 1
    group_id: int = 0


@dataclass(frozen=True, kw_only=True)
class Shortcut(Block):
    """[shortcut]: the output before it plus that of layer `from_layer` (darknet's `from`, counted as in Route), then the activation."""

    section = "shortcut"

    from_layer: int
    activation: Activation = "linear"


@dataclass(frozen=True, kw_only=True)
class Dropout(Block):
    """[dropout]: probability of dropping a value while training."""

    section = "dropout"

    probability: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Yolo(Block):
    """[yolo]: a head. anchors: all (width, height) in input pixels; mask: those of this head."""

    section = "yolo"

    anchors: tuple[tuple[float, float], ...]
    mask: tuple[int, ...]
    classes: int = 20
    scale_x_y: float = 1.0

    @property
    def filters(self) -> int:
        """Channels that the convolution before this head must have."""
        return len(self.mask) * (VALUES_BEFORE_CLASSES + self.classes)


Layer = Convolutional | Maxpool | Upsample | Route | Shortcut | Dropout | Yolo


@dataclass(frozen=True, kw_only=True)
class DarknetConfig:
    """A network as its cfg describes it. path: the file that it was read from, for messages."""

    net: Net
    layers: tuple[Layer, ...]
    path: Path | None = field(default=None, compare=False)

    def where(self, line: int) -> str:
        """`file:line`, for an error message."""
        return f"{self.path or '<cfg>'}:{line}" if line else str(self.path or "<cfg>")

    def with_classes(self, classes: int) -> "DarknetConfig":
        """The same network for another number of classes: every [yolo], and the filters of the convolution before it.

        Raises ConfigError if a head is not preceded by a convolution.
        """
        layers = list(self.layers)
        for index, layer in enumerate(self.layers):
            if isinstance(layer, Yolo):
                head = layers[index] = dataclasses.replace(layer, classes=classes)
                layers[index - 1] = dataclasses.replace(self.before_head(index), filters=head.filters)
        return dataclasses.replace(self, layers=tuple(layers))

    def before_head(self, index: int) -> Convolutional:
        """The convolution whose output the head at `index` reads. Raises ConfigError if there is none."""
        before = self.layers[index - 1] if index else None
        if not isinstance(before, Convolutional):
            raise ConfigError("[yolo] must follow a [convolutional]", where=self.where(self.layers[index].line))
        return before

    def with_input_size(self, width: int, height: int) -> "DarknetConfig":
        """The same network for another input size in pixels; anchors stay the same, in pixels."""
        return dataclasses.replace(self, net=dataclasses.replace(self.net, width=width, height=height))


KINDS: dict[str, type[Net] | type[Layer]] = {
    kind.section: kind for kind in (Net, Convolutional, Maxpool, Upsample, Route, Shortcut, Dropout, Yolo)
}
ALIASES = {"network": "net", "conv": "convolutional", "max": "maxpool"}

LAYER_TRAINING = "burnin_update decay learning_rate momentum onlyforward stopbackward train_only_bn"
# Options that darknet's trainer and its drawing read and that leave the network unchanged: allowed in a cfg, kept, never used.
TRAINING: dict[Any, str] = {
    Net: """
        adam angle aspect attention augment_speed b1 b2 batch blur burn_in center cutmix decay dynamic_minibatch ema_alpha ema_start_iters
        eps exposure flip gaussian_noise hue learning_rate letter_box loss_scale max_batches max_chart_loss max_crop min_crop mixup momentum
        mosaic mosaic_bound noadjust num_sigmas_reject_badlabels object_skip optimized_memory policy power random resize_step saturation
        scale scales seq_scales sgdr_cycle sgdr_mult show_receptive_field step steps subdivisions time_steps track weights_reject_freq
    """,
    Yolo: """
        beta_nms cls_normalizer counters_per_class delta_normalizer focal_loss ignore_thresh iou_loss iou_normalizer iou_thresh
        iou_thresh_kind jitter label_smooth_eps map max max_delta nms_kind obj_normalizer objectness_smooth random resize show_details
        track_history_size truth_thresh
    """,
}

Reader = tuple[Callable[[str], Any], str]
"""How the text of an option becomes a value (ValueError for another text), and what the text must be."""


def _items(text: str) -> list[str]:
    """The items of a list; a comma at its end is allowed, as darknet does."""
    return text.removesuffix(",").split(",")


def _pairs(text: str) -> tuple[tuple[float, float], ...]:
    values = list(map(float, _items(text)))
    if not all(0 < value < float("inf") for value in values):
        raise ValueError(text)
    return tuple(zip(values[::2], values[1::2], strict=True))


def _always(neutral: float) -> Reader:
    """For an option that would change the network in a way that is not supported: only the value that changes nothing."""
    return lambda text: [neutral].index(float(text)), f"{neutral:g}, other values are not supported"


WHOLE: Reader = (int, "a whole number")
FLAG: Reader = (lambda text: ("0", "1").index(text) == 1, "0 or 1")
# by the type of the block's field
READERS: dict[Any, Reader] = {
    int: WHOLE,
    bool: FLAG,
    float: (float, "a number"),
    tuple[int, ...]: (lambda text: tuple(map(int, _items(text))), "whole numbers with commas between them"),
    tuple[tuple[float, float], ...]: (_pairs, "pairs of numbers above 0: width, height, width, height"),
    Activation: (lambda text: ACTIVATIONS[ACTIVATIONS.index(text)], f"one of {', '.join(ACTIVATIONS)}"),
}
# options that are no fields of a block
EXTRA: dict[Any, dict[str, Reader]] = {
    Convolutional: {"pad": FLAG},
    Upsample: {"scale": _always(1)},
    Dropout: {"dropblock": _always(0)},
    Yolo: {"num": WHOLE, "new_coords": _always(0)},
}


@dataclass
class Section:
    """One section of the text. options: the text and the line of each."""

    name: str
    line: int
    options: dict[str, tuple[str, int]] = field(default_factory=dict)


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
    where = str(path or "<cfg>")
    sections = _sections(text, where)
    if not sections or sections[0].name != "net":
        raise ConfigError("a cfg begins with [net]", where=where)
    net, *layers = (_block(section, where) for section in sections)
    return DarknetConfig(net=net, layers=tuple(layers), path=path)


def _sections(text: str, where: str) -> list[Section]:
    sections: list[Section] = []
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        line = raw.split("#")[0].strip()
        if not line or line.startswith(";"):
            continue
        name, _, value = (part.strip() for part in line.partition("="))
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1].strip().lower()
            sections.append(Section(ALIASES.get(name, name), number))
        elif not sections or not name or not value:
            raise ConfigError(f"neither a [section] nor an option=value of one: '{line}'", where=f"{where}:{number}")
        elif name in sections[-1].options:
            raise ConfigError(f"'{name}' occurs twice in [{sections[-1].name}]", where=f"{where}:{number}")
        else:
            sections[-1].options[name] = (value, number)
    return sections


def _block(section: Section, where: str) -> Any:
    kind = KINDS.get(section.name)
    if kind is None:
        raise unknown_name("section", section.name, KINDS, where=f"{where}:{section.line}", supported="detectors with [yolo] heads only")
    parts = {part.name: part for part in dataclasses.fields(kind) if part.name not in ("training", "line")}
    readers = {name.removesuffix("_layer"): READERS[part.type] for name, part in parts.items()} | EXTRA.get(kind, {})
    values: dict[str, Any] = {}
    training = []
    for name, (text, line) in section.options.items():
        if name in readers:
            values[name] = _value(section.name, name, text, readers[name], f"{where}:{line}")
        elif name in (known := TRAINING.get(kind, LAYER_TRAINING).split()):
            training.append((name, text))
        else:
            raise unknown_name(f"option of [{section.name}]", name, [*known, *readers], where=f"{where}:{line}")
    _complete(kind, values, f"{where}:{section.line}")
    given = {name: values[option] for name in parts if (option := name.removesuffix("_layer")) in values}
    for name, part in parts.items():
        if name not in given and part.default is dataclasses.MISSING:
            raise ConfigError(f"[{section.name}] has no '{name.removesuffix('_layer')}'", where=f"{where}:{section.line}")
    return kind(**given, training=tuple(training), line=section.line)


def _value(section: str, name: str, text: str, reader: Reader, where: str) -> Any:
    read, expected = reader
    try:
        return read(text)
    except ValueError:
        raise ConfigError(f"{name} of [{section}] must be {expected}, not '{text}'", where=where) from None


def _complete(kind: type[Net] | type[Layer], values: dict[str, Any], where: str) -> None:
    """Put in what follows from other options. Raises ConfigError for anchors that do not fit together."""
    if kind is Convolutional and values.get("pad"):
        values["padding"] = values.get("size", 1) // 2
    elif kind is Maxpool:
        stride = values.setdefault("stride", 1)
        values.setdefault("padding", values.setdefault("size", stride) - 1)
    elif kind is Yolo and "anchors" in values:
        listed, count = len(values["anchors"]), values.get("num", 1)
        if count != listed:
            raise ConfigError(f"num={count}, but [yolo] lists {listed} anchors", where=where)
        if not set(values.setdefault("mask", tuple(range(count)))) <= set(range(count)):
            raise ConfigError(f"mask={values['mask']} must name anchors from 0 to {count - 1}", where=where)


def to_cfg(config: DarknetConfig) -> str:
    """The text of a cfg that reads as `config` again, options of training included; darknet and OpenCV read it too."""
    return "\n".join("\n".join(_lines(block)) + "\n" for block in (config.net, *config.layers))


def _lines(block: Net | Layer) -> Iterator[str]:
    yield f"[{block.section}]"
    for name, value in vars(block).items():
        if name not in ("training", "line"):
            yield f"{name.removesuffix('_layer')}={_text(value)}"
    if isinstance(block, Yolo):
        yield f"num={len(block.anchors)}"
    yield from (f"{name}={text}" for name, text in block.training)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(int(value) if value == int(value) else value) if isinstance(value, bool | float) else str(value)
