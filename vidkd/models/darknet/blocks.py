"""The sections of a darknet cfg as values: what each layer computes, without how it is trained.

Field names are darknet's option names. `training` keeps the options that only darknet's own trainer reads, as (name, text) in the order of
the file. `line` is where the section begins in its file, 0 for one made in code; two blocks that differ in nothing else are equal.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, get_args

from vidkd.base.errors import ConfigError

Activation = Literal["linear", "leaky", "relu", "relu6", "mish", "logistic", "swish"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

VALUES_BESIDE_CLASSES = 5
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
        return len(self.mask) * (VALUES_BESIDE_CLASSES + self.classes)


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
