"""Statistics of batch normalisation, measured anew: what a pruned layer puts out is not what the layers behind it were measured on."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def measure_norms(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running means and variances of a network in eval mode to those of these batches, each counting the same; no weight changes.

    batches: inputs of the network; without any, statistics stay. Source: adaptive batch normalisation of Li et al. 2020 ("EagleEye", arXiv
    2007.02491, section 3.2), there to judge what was pruned, here before it learns.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    try:
        for place, batch in enumerate(batches):
            for norm in norms if place == 0 else ():
                norm.reset_running_stats()
                norm.momentum = None  # a mean over all batches
                norm.train()
            net(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
