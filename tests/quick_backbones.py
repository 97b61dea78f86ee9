"""Backbones of which each kind has a small one that every run of the tests builds; the others are marked slow."""

from collections.abc import Iterable

import pytest
import torch
from torch import nn

QUICK = {"tiny3d", "mobilenet_v3_small", "mc3_18", "x3d_xs", "swin3d_t"}


def quick_first(names: Iterable[str], quick: set[str] = QUICK) -> list[object]:
    """Parameters of a test, in their order."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


def calibrated(net: nn.Module, clip: torch.Tensor) -> nn.Module:
    """Set every batch normalisation to the statistics of `clip`, or random features would shrink to nothing and agree by that."""
    norms = [layer for layer in net.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(clip)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return net.eval()
