"""A head added to a detector that stands: a hidden layer of its own beside the features that the heads read.

The public code of TKD leaves its student alone and adds a decoder that puts out boxes of its own, beside those of the student. Here each
head reads a new hidden layer in addition: it begins by saying what it said, it can learn to take boxes back, and no box is found twice.
The network is still one that a cfg describes. Source: reconstruction.
"""

from collections.abc import Iterator

import torch
from torch import nn

from vidkd.base.errors import ConfigError
from vidkd.models.darknet.blocks import Convolutional, DarknetConfig, Layer
from vidkd.models.darknet.graph import added_sections
from vidkd.models.darknet.layers import ConvolutionBlock
from vidkd.models.darknet.net import Darknet
from vidkd.models.darknet.sections import with_sections

FILTERS = 64


def with_added_head(net: Darknet, *, filters: int = FILTERS, seed: int = 0) -> Darknet:
    """A network whose heads read a new layer too: a 3x3 convolution with so many filters over what they read so far.

    Its raw heads are those of `net`, for the heads' weights of what is new are zeros, until it learns (`Darknet.added_parameters`); the new
    kernels are random by `seed`. It has the type, the device and the mode of `net`, which is not changed. Heads that have an added one stay
    as they are, and with it `net` itself where all do. Raises ConfigError for a head whose convolution has groups, ValueError for
    filters < 1.
    """
    if filters < 1:
        raise ValueError(f"filters must be at least 1: {filters}")
    lacking = {head.layer - 1 for head in net.heads if head.added is None}
    if not lacking:
        return net
    sections = [list(_sections(net.config, place, filters, added=place in lacking)) for place in range(len(net.config.layers))]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of other devices, which are not put back
        made = Darknet(with_sections(net.config, sections)).to(next(net.parameters()))
    stop = 0
    for old, parts in zip(net.layers, sections, strict=True):
        stop += len(parts)
        if isinstance(old, ConvolutionBlock):
            _copy(old, made.layers[stop - 1])
    return made.train(net.training)


def _sections(config: DarknetConfig, place: int, filters: int, *, added: bool) -> Iterator[Layer]:
    layer = config.layers[place]
    if added:
        assert isinstance(layer, Convolutional)
        if layer.groups > 1:
            raise ConfigError(f"groups={layer.groups}: a head in groups cannot read a layer more", where=config.where(layer.line))
        yield from added_sections(filters)
    yield layer


@torch.no_grad()
def _copy(old: ConvolutionBlock, new: nn.Module) -> None:
    """The weights of a convolution into one that may read more channels before those that it read, which count nothing."""
    weights = old.state_dict()
    more = new.get_parameter("conv.weight").shape[1] - old.conv.weight.shape[1]
    weights["conv.weight"] = nn.functional.pad(old.conv.weight, (0, 0, 0, 0, more, 0))
    new.load_state_dict(weights)
