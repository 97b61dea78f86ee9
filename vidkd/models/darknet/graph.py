"""A cfg as a graph: inputs and output size of each layer, and the heads."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from vidkd.base.errors import ConfigError
from vidkd.losses.yolo_heads import HeadSpec
from vidkd.models.darknet.blocks import (
    Convolutional,
    DarknetConfig,
    Dropout,
    Layer,
    Maxpool,
    Route,
    Shortcut,
    Upsample,
    Yolo,
)

IMAGE = -1
"""The index of the input image among the layers."""

CHOOSE_MULTIPLES = "choose width and height of the input as multiples of the largest stride, mostly 32"

MOST_PARAMETERS, MOST_VALUES = 2**29, 2**28
"""Bounds of a cfg, far above any detector: weights of the network (2 GiB), and values that one layer puts out for one image (1 GiB)."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Node:
    """sources: the layers that one reads, IMAGE or an index from 0. shape: (channels, height, width) that it puts out."""

    sources: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Head(HeadSpec):
    """One yolo head of a network: the meaning of its raw output, and its place.

    layer: index of its [yolo]; the convolution before it puts out the raw head. source: the layer that this convolution reads.
    mask: the indices of its anchors among those of the cfg.
    added: the convolution that `with_added_head` put there, where `source` joins one such with what that one reads.
    """

    layer: int
    source: int
    mask: tuple[int, ...]
    added: int | None = None

    @property
    def features(self) -> int:
        """The layer that the head reads, an added one aside."""
        return self.source if self.added is None else self.added - 1


def trace(config: DarknetConfig) -> tuple[Node, ...]:
    """Sources and sizes of all layers at the input size of the cfg.

    Raises ConfigError with file:line where layers do not fit together, or the network is larger than any memory.
    """
    nodes: list[Node] = []
    parameters = 0
    _check_values((config.net.channels, config.net.height, config.net.width), config.where(config.net.line))
    for index, layer in enumerate(config.layers):
        if index and isinstance(config.layers[index - 1], Yolo) and not isinstance(layer, Route):
            raise ConfigError(f"[{layer.section}] follows [yolo], whose boxes are no features", where=config.where(layer.line))
        sources = _sources(config, index)
        shapes = [(config.net.channels, config.net.height, config.net.width) if at == IMAGE else nodes[at].shape for at in sources]
        nodes.append(Node(sources, _shape(config, layer, shapes)))
        _check_values(nodes[-1].shape, config.where(layer.line))
        if isinstance(layer, Convolutional):
            parameters += layer.filters * (shapes[0][0] // layer.groups) * layer.size**2
        if parameters > MOST_PARAMETERS:
            raise ConfigError(f"the network has more than {MOST_PARAMETERS:,} weights up to this layer", where=config.where(layer.line))
    return tuple(nodes)


def _check_values(shape: Shape, where: str) -> None:
    if shape[0] * shape[1] * shape[2] > MOST_VALUES:
        raise ConfigError(f"{_sizes([shape])} values for one image, more than {MOST_VALUES:,}", where=where)


def heads_of(config: DarknetConfig, nodes: Sequence[Node]) -> tuple[Head, ...]:
    """The heads in the order of the cfg.

    Raises ConfigError if there are none, if they differ in their classes, or if a grid does not divide the input evenly.
    """
    heads = tuple(_head(config, nodes, index, layer) for index, layer in enumerate(config.layers) if isinstance(layer, Yolo))
    if not heads:
        raise ConfigError("a detector needs at least one [yolo]", where=config.where(0))
    if len({head.classes for head in heads}) > 1:
        raise ConfigError(f"heads differ in their classes: {[head.classes for head in heads]}", where=config.where(0))
    return heads


def unused_anchors(config: DarknetConfig) -> tuple[tuple[float, float], ...]:
    """The anchors that a [yolo] lists and no head has in its mask (one in tiny-YOLOv3); boxes that fit them best have no cell."""
    yolos = [layer for layer in config.layers if isinstance(layer, Yolo)]
    used = {yolo.anchors[number] for yolo in yolos for number in yolo.mask}
    return tuple(dict.fromkeys(anchor for yolo in yolos for anchor in yolo.anchors if anchor not in used))


def _head(config: DarknetConfig, nodes: Sequence[Node], index: int, yolo: Yolo) -> Head:
    convolution = config.before_head(index)
    if convolution.filters != yolo.filters:
        raise ConfigError(
            f"filters={convolution.filters} before [yolo] must be {yolo.filters}: {len(yolo.mask)} anchors x (5 + {yolo.classes} classes)",
            where=config.where(convolution.line),
        )
    _, height, width = nodes[index].shape
    net, source = config.net, nodes[index - 1].sources[0]
    if net.width % width or net.height % height or net.width // width != net.height // height:
        raise ConfigError(
            f"an input of {net.width}x{net.height} does not divide evenly into the {width}x{height} cells of a head",
            where=config.where(yolo.line),
            hint=CHOOSE_MULTIPLES,
        )
    return Head(
        layer=index,
        source=source,
        added=_added(config, nodes, source),
        anchors=tuple(yolo.anchors[number] for number in yolo.mask),
        mask=yolo.mask,
        stride=net.width // width,
        scale_x_y=yolo.scale_x_y,
        classes=yolo.classes,
        unused_anchors=unused_anchors(config),
    )


def added_sections(filters: int) -> tuple[Convolutional, Route]:
    """The sections that an added head puts before a head's convolution: a hidden layer over what that one reads, and both joined."""
    return Convolutional(filters=filters, size=3, padding=1, activation="leaky"), Route(layers=(-1, -2))


def _added(config: DarknetConfig, nodes: Sequence[Node], source: int) -> int | None:
    """The hidden layer of an added head that ends in `source`, read by nothing else; None where that is another layer."""
    hidden = source - 1
    before = config.layers[hidden] if hidden >= 0 else None
    if not isinstance(before, Convolutional) or (before, config.layers[source]) != added_sections(before.filters):
        return None
    readers = [index for index, node in enumerate(nodes) if {hidden, source} & set(node.sources)]
    return hidden if readers == [source, source + 1] else None


def _sources(config: DarknetConfig, index: int) -> tuple[int, ...]:
    layer = config.layers[index]
    if isinstance(layer, Route):
        return tuple(_absolute(config, index, number) for number in layer.layers)
    if isinstance(layer, Shortcut):
        return index - 1, _absolute(config, index, layer.from_layer)
    return (index - 1,)


def _absolute(config: DarknetConfig, index: int, number: int) -> int:
    layer = config.layers[index]
    at = index + number if number < 0 else number
    if not 0 <= at < index:
        raise ConfigError(f"layer {number} is none of the {index} before this one", where=config.where(layer.line))
    if isinstance(config.layers[at], Yolo):
        raise ConfigError(f"layer {number} is a [yolo], whose boxes are no features", where=config.where(layer.line))
    return at


def _shape(config: DarknetConfig, layer: Layer, shapes: list[Shape]) -> Shape:
    channels, height, width = shapes[0]
    match layer:
        case Convolutional():
            if channels % layer.groups:
                raise ConfigError(f"{channels} channels cannot be shared by groups={layer.groups}", where=config.where(layer.line))
            reach = layer.dilation * (layer.size - 1)
            padded = 2 * layer.padding * layer.dilation
            sides = [(side + padded - reach - 1) // layer.stride + 1 for side in (height, width)]
            channels = layer.filters
        case Maxpool():
            sides = [(side + layer.padding - layer.size) // layer.stride + 1 for side in (height, width)]
        case Upsample():
            sides = [height * layer.stride, width * layer.stride]
        case Route():
            sides, channels = [height, width], _routed_channels(config, layer, shapes)
        case Shortcut() if shapes[1] != shapes[0]:
            raise ConfigError(f"[shortcut] adds {_sizes(shapes)}, which differ", where=config.where(layer.line))
        case Shortcut() | Dropout() | Yolo():
            sides = [height, width]
    if min(sides) < 1:
        raise ConfigError(f"nothing is left of {_sizes(shapes)} after this layer", where=config.where(layer.line))
    return channels, sides[0], sides[1]


def _routed_channels(config: DarknetConfig, route: Route, shapes: list[Shape]) -> int:
    if len({shape[1:] for shape in shapes}) > 1:
        raise ConfigError(
            f"[route] joins {_sizes(shapes)}, which differ in width or height", where=config.where(route.line), hint=CHOOSE_MULTIPLES
        )
    if any(shape[0] % route.groups for shape in shapes):
        raise ConfigError(f"{_sizes(shapes)} cannot be parted into groups={route.groups}", where=config.where(route.line))
    return sum(shape[0] // route.groups for shape in shapes)


def _sizes(shapes: list[Shape]) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes)


def with_sections(config: DarknetConfig, sections: Sequence[Sequence[Layer]]) -> DarknetConfig:
    """The cfg in which each layer is replaced by some sections, of which the last puts out what the layer did.

    sections: at least one for each layer. Where the last is a [route] or [shortcut], it refers to layers by the numbers of `config`; one
    before it refers to the sections right before itself, by negative numbers.
    """
    last, count = [], 0  # of each old layer, the new one that puts out what it did
    for parts in sections:
        count += len(parts)
        last.append(count - 1)
    layers = [part for old, (*new, kept) in enumerate(sections) for part in (*new, _renumbered(kept, old, last))]
    return dataclasses.replace(config, layers=tuple(layers))


def _renumbered(layer: Layer, old: int, last: Sequence[int]) -> Layer:
    """A layer that refers to others by number; `old` is its own number before."""

    def follow(number: int) -> int:
        return last[old + number] - last[old] if number < 0 else last[number]

    if isinstance(layer, Route):
        return dataclasses.replace(layer, layers=tuple(follow(number) for number in layer.layers))
    if isinstance(layer, Shortcut):
        return dataclasses.replace(layer, from_layer=follow(layer.from_layer))
    return layer
