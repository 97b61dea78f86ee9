"""What a step of compression gives: the new network, the plan that rebuilds it, and what happened to each layer.

A cfg says all of a darknet detector, so such a network is rebuilt from its cfg, and written as cfg and weights like any other.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.models.changes import LowRank, Method
from vidkd.models.classifier import ClassifierOutput
from vidkd.models.darknet import Darknet, DarknetConfig
from vidkd.models.darknet.cfg import Convolutional, Layer
from vidkd.models.darknet.graph import ConvolutionBlock, with_sections
from vidkd.models.darknet.net import convolution_blocks

Net = TypeVar("Net", bound=nn.Module)
EXCLUDE = "exclude the layers concerned: what they do to their channels is not understood"


@dataclass(frozen=True, kw_only=True)
class Compressed(Generic[Net]):
    """One step of compression, done.

    model: the new network, in eval mode; the old one is untouched. plan: plain values, for `vidkd.models.changes` (a darknet is
    rebuilt from its cfg instead). layers: what was done to each layer, in words. left: layers that were not changed, and why.
    """

    model: Net
    plan: dict[str, Any]
    layers: Mapping[str, str]
    left: Mapping[str, str]

    @property
    def notes(self) -> dict[str, dict[str, str]]:
        """What happened to every layer, as plain values."""
        return {"layers": dict(self.layers), "left": dict(self.left)}


def checked_outputs(net: nn.Module, example: Tensor, like: nn.Module) -> None:
    """Run both networks, in eval mode. Raises ConfigError if `net` fails, or puts out other shapes than `like` (features aside)."""
    try:
        found = _shapes(net, example)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError("the compressed network does not run: its layers no longer fit together", reason=error, hint=EXCLUDE) from error
    expected = _shapes(like, example)
    if found != expected:
        raise ConfigError("the compressed network puts out other shapes", found=found, expected=expected, hint=EXCLUDE)


def _shapes(net: nn.Module, example: Tensor) -> list[tuple[int, ...]]:
    net.eval()
    with torch.no_grad():
        given = net(example)
    if isinstance(given, ClassifierOutput):
        given = (given.logits, *given.attention.values(), *given.targets.values())
    return [tuple(each.shape) for each in ((given,) if isinstance(given, Tensor) else given)]


# Forms of low rank that a cfg can state: its kernels are square.
METHODS_OF_CFG: tuple[Method, ...] = ("channel", "tucker")


def described(net: Darknet) -> Darknet:
    """A network from the cfg that says what `net` has become, with its weights, in eval mode.

    net: one whose filters were removed in place, or whose convolutions were replaced by `LowRank`: each part becomes a section of its own,
    linear and without normalisation but for the last, and what refers to layers by number follows.
    """
    made = Darknet(_config(net)).to(next(net.parameters()))
    blocks = convolution_blocks(made)
    for old in convolution_blocks(net):
        for (conv, norm), new in zip(_parts(old), blocks, strict=False):
            _copy(new, conv, norm)
    return made.eval()


def _parts(block: ConvolutionBlock) -> list[tuple[nn.Conv2d, nn.Module | None]]:
    """The convolutions that a block consists of, the last with its normalisation."""
    inside: nn.Module = block.conv
    convs = [cast(nn.Conv2d, part) for part in (inside if isinstance(inside, LowRank) else [inside])]
    return [(conv, block.norm if conv is convs[-1] else None) for conv in convs]


@torch.no_grad()
def _copy(new: ConvolutionBlock, conv: nn.Conv2d, norm: nn.Module | None) -> None:
    new.conv.weight.copy_(conv.weight)
    if new.conv.bias is not None:
        new.conv.bias.copy_(conv.bias if conv.bias is not None else torch.zeros_like(new.conv.bias))
    if new.norm is not None and norm is not None:
        new.norm.load_state_dict(norm.state_dict())


def _config(net: Darknet) -> DarknetConfig:
    sections = [list(_sections(layer, module)) for layer, module in zip(net.config.layers, net.layers, strict=True)]
    return with_sections(net.config, sections)


def _sections(layer: Layer, module: nn.Module) -> Iterator[Layer]:
    if not isinstance(layer, Convolutional):
        yield layer
        return
    assert isinstance(module, ConvolutionBlock)
    parts = _parts(module)
    for conv, _ in parts:
        inner = conv is not parts[-1][0]
        changed = dataclasses.replace(
            layer,
            filters=conv.out_channels,
            groups=conv.groups,
            size=conv.kernel_size[0],
            stride=conv.stride[0],
            padding=conv.padding[0] // conv.dilation[0],  # type: ignore[operator]  # numbers, as built from a cfg
            dilation=conv.dilation[0],
        )
        yield dataclasses.replace(changed, batch_normalize=False, activation="linear", training=()) if inner else changed
