"""Darknet cfg files: text to typed blocks, strictly, and back.

The format is darknet's (https://pjreddie.com/darknet and its AlexeyAB fork), defaults included. What would change the network and is not
known here is an error, where darknet would go on without it; options that only darknet's trainer reads are listed by name and kept.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.files import reason_of
from vidkd.models.darknet.blocks import (
    ACTIVATIONS,
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
from vidkd.models.darknet.options import Option, Options
from vidkd.models.darknet.training_options import LAYER_TRAINING, NET_TRAINING, YOLO_TRAINING

ALIASES = {"network": "net", "conv": "convolutional", "max": "maxpool"}

# Sections of darknet that are no part of the detectors built here: told apart from misspelt ones.
UNSUPPORTED = {
    *("activation", "avg", "avgpool", "batchnorm", "connected", "contrastive", "cost", "crnn", "crop", "deconvolutional", "detection"),
    *("gaussian_yolo", "gru", "implicit", "iseg", "local", "local_avgpool", "logistic", "lstm", "normalization", "region", "reorg"),
    *("reorg3d", "rnn", "sam", "scale_channels", "softmax", "sampler", "yolo_segmentation"),
}


def read_cfg(path: Path | str) -> DarknetConfig:
    """A cfg file as typed blocks. Raises ConfigError with file:line if it is missing or holds something that is not understood."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read cfg {path}", reason=reason_of(error), to_mend="give the path of a darknet cfg file") from error
    return parse_cfg(text, path)


def parse_cfg(text: str, path: Path | None = None) -> DarknetConfig:
    """`read_cfg` for text. path: the file that messages name."""
    sections = list(_sections(text, str(path or "<cfg>")))
    if not sections or sections[0].section != "net":
        raise ConfigError("a cfg begins with [net]", where=sections[0].where() if sections else path or "<cfg>")
    layers = []
    for section in sections[1:]:
        if section.section not in READERS:
            raise _unknown_section(section)
        layers.append(READERS[section.section](section))
    return DarknetConfig(net=_net(sections[0]), layers=tuple(layers), path=path)


def _sections(text: str, path: str) -> Iterator[Options]:
    section: Options | None = None
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        line = raw.split("#")[0].strip()
        if not line or line.startswith(";"):
            continue
        if line.startswith("["):
            if section:
                yield section
            section = Options(_section_name(line, f"{path}:{number}"), path, number, {})
        else:
            _add_option(section, line, f"{path}:{number}", number)
    if section:
        yield section


def _section_name(line: str, where: str) -> str:
    if not line.endswith("]"):
        raise ConfigError(f"a section stands in brackets: '{line}'", where=where)
    name = line[1:-1].strip().lower()
    return ALIASES.get(name, name)


def _add_option(section: Options | None, line: str, where: str, number: int) -> None:
    name, equals, value = (part.strip() for part in line.partition("="))
    if section is None or not equals or not name or not value:
        raise ConfigError(f"neither a [section] nor an option=value of one: '{line}'", where=where)
    if name in section.given:
        raise ConfigError(f"'{name}' stands twice in [{section.section}]", where=where, first=section.given[name].line)
    section.given[name] = Option(value, number)


def _unknown_section(section: Options) -> ConfigError:
    if section.section in UNSUPPORTED:
        known = ", ".join(sorted(READERS))
        return ConfigError(f"[{section.section}] is not supported: detectors with [yolo] heads only", where=section.where(), known=known)
    return unknown_name("section", section.section, READERS, where=section.where())


def _net(options: Options) -> Net:
    return Net(
        width=options.integer("width"),
        height=options.integer("height"),
        channels=options.integer("channels"),
        training=options.rest(NET_TRAINING),
        line=options.line,
    )


def _convolutional(options: Options) -> Convolutional:
    size, padding = options.integer("size", 1), options.integer("padding", 0, least=0)
    block = Convolutional(
        batch_normalize=options.flag("batch_normalize"),
        filters=options.integer("filters", 1),
        size=size,
        stride=options.integer("stride", 1),
        padding=size // 2 if options.flag("pad") else padding,
        groups=options.integer("groups", 1),
        dilation=options.integer("dilation", 1),
        activation=options.one_of("activation", ACTIVATIONS, "logistic"),
        training=options.rest(LAYER_TRAINING),
        line=options.line,
    )
    if block.filters % block.groups:
        raise ConfigError(f"filters={block.filters} cannot be shared by groups={block.groups}", where=options.where())
    return block


def _maxpool(options: Options) -> Maxpool:
    stride = options.integer("stride", 1)
    size = options.integer("size", stride)
    padding = options.integer("padding", size - 1, least=0)
    if padding >= size:
        raise ConfigError(f"padding={padding} must be below the size of the window, {size}", where=options.where())
    return Maxpool(size=size, stride=stride, padding=padding, training=options.rest(LAYER_TRAINING), line=options.line)


def _upsample(options: Options) -> Upsample:
    options.refuse("scale", 1, "values would be multiplied")
    return Upsample(stride=options.integer("stride", 2), training=options.rest(LAYER_TRAINING), line=options.line)


def _route(options: Options) -> Route:
    block = Route(
        layers=options.indices("layers"),
        groups=options.integer("groups", 1),
        group_id=options.integer("group_id", 0, least=0),
        training=options.rest(LAYER_TRAINING),
        line=options.line,
    )
    if block.group_id >= block.groups:
        raise ConfigError(f"group_id={block.group_id} is not one of groups={block.groups}, counted from 0", where=options.where())
    return block


def _shortcut(options: Options) -> Shortcut:
    return Shortcut(
        from_layer=options.index("from"),
        activation=options.one_of("activation", ACTIVATIONS, "linear"),
        training=options.rest(LAYER_TRAINING),
        line=options.line,
    )


def _dropout(options: Options) -> Dropout:
    options.refuse("dropblock", 0, "only single values are dropped here")
    probability = options.number("probability", 0.5, least=0)
    if probability >= 1:
        raise ConfigError(f"probability of [dropout] must be below 1, not {probability:g}", where=options.where())
    return Dropout(probability=probability, training=options.rest(LAYER_TRAINING), line=options.line)


def _yolo(options: Options) -> Yolo:
    options.refuse(
        "new_coords", 0, "its boxes are not decoded by sigmoid and exponential; convert the network or train one with new_coords=0"
    )
    anchors, count = options.pairs("anchors"), options.integer("num", 1)
    if count != len(anchors):
        raise ConfigError(f"num={count}, but [yolo] lists {len(anchors)} anchors", where=options.where())
    mask = options.indices("mask", range(count))
    if not set(mask) <= set(range(count)) or len(set(mask)) != len(mask):
        raise ConfigError(f"mask={','.join(map(str, mask))} must name anchors from 0 to {count - 1}, each once", where=options.where())
    return Yolo(
        mask=mask,
        anchors=anchors,
        classes=options.integer("classes", 20),
        scale_x_y=options.number("scale_x_y", 1.0, least=1.0),
        training=options.rest(YOLO_TRAINING),
        line=options.line,
    )


READERS: dict[str, Callable[[Options], Layer]] = {
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
