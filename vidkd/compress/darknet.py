"""Compressed darknet detectors: their cfg says it all, so they are rebuilt from it and written as cfg and weights like any other."""

import dataclasses

from torch import Tensor

from vidkd.models.darknet import Darknet, DarknetConfig
from vidkd.models.darknet.blocks import Convolutional
from vidkd.models.darknet.layers import ConvolutionBlock


def narrowed(net: Darknet) -> Darknet:
    """A network from the cfg that describes the convolutions of `net` as they are, with their weights, in eval mode.

    net: one whose filters were removed in place, so that its own cfg is outdated.
    """
    made = Darknet(_described(net)).to(_any_weight(net))
    made.load_state_dict(net.state_dict())
    return made.eval()


def _any_weight(net: Darknet) -> Tensor:
    return next(net.parameters())


def _described(net: Darknet) -> DarknetConfig:
    layers = list(net.config.layers)
    for index, (layer, module) in enumerate(zip(net.config.layers, net.layers, strict=True)):
        if isinstance(layer, Convolutional):
            assert isinstance(module, ConvolutionBlock)
            layers[index] = dataclasses.replace(layer, filters=module.conv.out_channels, groups=module.conv.groups)
    return dataclasses.replace(net.config, layers=tuple(layers))
