"""Networks of which some filters put out zero, so that to remove them changes nothing."""

import copy

import torch
from torch import Tensor, nn

from vidkd.compress.graph import couplings, pieces_of
from vidkd.compress.prune import is_norm


def lively(
    net: nn.Module, example: Tensor, *, scales: tuple[float, float] = (0.5, 1.5), shifts: tuple[float, float] = (-0.5, 0.5)
) -> nn.Module:
    """Random scales, shifts and statistics in every batch normalisation, the latter those of the example: nothing vanishes on the way.

    With shifts of more than two deviations hardly a value is cut off at zero: what a deep network says then hangs on all of its layers
    without growing what is off in each.
    """
    generator = torch.Generator().manual_seed(0)
    norms = [layer for layer in net.modules() if is_norm(layer)]
    for norm in norms:
        nn.init.uniform_(norm.get_parameter("weight"), *scales, generator=generator)
        nn.init.uniform_(norm.get_parameter("bias"), *shifts, generator=generator)
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(example)
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


@torch.no_grad()
def switch_off(net: nn.Module, example: Tensor, *, every: int = 2) -> int:
    """Let every second (or third) filter that may go put out zero: by gamma = beta = 0, where there is no normalisation by weight and bias.

    Returns how many these are.
    """
    off = 0
    for coupling in couplings(pieces_of(copy.deepcopy(net), example)):
        if coupling.excluded is not None:
            continue
        normed = [member for member in coupling.members if is_norm(member.module)]
        # X3D has convolutions on its shortcut that nothing normalises
        plain = [member for member in coupling.members if member.name.endswith("branch1_conv")]
        for member in [*normed, *plain] if normed else coupling.members:
            layer = net.get_submodule(member.name)
            gone = [own for own, root in zip(member.own, member.root, strict=True) if root % every == 0]
            for parameter in layer.parameters():
                parameter[gone] = 0
        off += len(range(0, coupling.filters, every))
    return off
