"""What a filter is kept for: a score for each filter of a coupling, the lowest go first.

- ``l1``, ``l2``: mean magnitude, or root mean square, of the weights that make the filter, over the layers of the coupling, divided by the
  mean over its filters so that layers compare (norms: Li et al. 2017, arXiv 1608.08710; over a coupling: Fang et al. 2023, 2301.12900).
- ``norm_scale``: mean |gamma| of its batch normalisations (Liu et al. 2017, network slimming, arXiv 1708.06519).
- ``taylor``: the squared change of the loss to first order if the filter puts out zero, over batches (Molchanov et al. 2019, arXiv
  1906.10771, eq. 8). Where there is batch normalisation it is read there (gamma and beta times their gradients), else at weight and bias.
- ``random``: uniform noise, the control.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.compress.config import Criterion
from vidkd.compress.graph import Coupling

# Yields the loss of a network on one batch after the other; the network is in eval mode.
LossBatches = Callable[[nn.Module], Iterable[Tensor]]
# On how many training batches a recipe measures what a filter is worth to the loss.
TAYLOR_BATCHES = 16
# Root filters, own outputs and parameters of the members whose outputs are scaled by these parameters.
_Gate = tuple[Tensor, list[int], tuple[nn.Parameter, ...]]


def scores(
    net: nn.Module, couplings: Sequence[Coupling], criterion: Criterion, *, seed: int = 0, losses: LossBatches | None = None
) -> dict[str, Tensor]:
    """Scores (filters,) in float64 of each coupling that the criterion can judge, by its name; "norm_scale" needs a normalisation.

    losses: for "taylor" only, given `net` itself. Raises ConfigError if it is not finite.
    """
    if criterion == "taylor":
        return _taylor(net, couplings, losses)
    if criterion == "random":
        noise = torch.Generator().manual_seed(seed)
        return {each.name: torch.rand(each.filters, generator=noise, dtype=torch.float64) for each in couplings}
    if criterion == "norm_scale":
        scales = {each.name: _mean_over_members(each, _scale) for each in couplings}
        return {name: scale for name, scale in scales.items() if scale is not None}
    power = 1 if criterion == "l1" else 2
    norms = {each.name: _mean_over_members(each, lambda module: _norm(module, power)) for each in couplings}
    return {name: norm / norm.mean().clamp(min=torch.finfo(norm.dtype).tiny) for name, norm in norms.items() if norm is not None}


def _mean_over_members(coupling: Coupling, measure: Callable[[nn.Module], Tensor | None]) -> Tensor | None:
    """A measure of the outputs of each member, averaged over the members that have it; None if none has."""
    total, count = torch.zeros(2, coupling.filters, dtype=torch.float64)
    for member in coupling.members:
        values = measure(member.module)
        if values is not None:
            root = torch.tensor(member.root)
            total.index_add_(0, root, values[list(member.own)])
            count.index_add_(0, root, torch.ones(len(root), dtype=torch.float64))
    return total / count.clamp(min=1) if count.any() else None


def is_norm(module: nn.Module) -> bool:
    """Whether a layer is batch normalisation with a scale and a shift."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine


def _scale(module: nn.Module) -> Tensor | None:
    return _plain(module.get_parameter("weight")).abs() if is_norm(module) else None


def _norm(module: nn.Module, power: int) -> Tensor | None:
    if not isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
        return None
    return _plain(module.weight).flatten(1).abs().pow(power).mean(1).pow(1 / power)


def _plain(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float64)


def _taylor(net: nn.Module, couplings: Sequence[Coupling], losses: LossBatches | None) -> dict[str, Tensor]:
    assert losses is not None
    gates = {each.name: _gates(each) for each in couplings}
    wanted = list({parameter for members in gates.values() for _, _, parameters in members for parameter in parameters})
    total, batches = {each.name: torch.zeros(each.filters, dtype=torch.float64) for each in couplings}, 0
    for loss in losses(net):
        slopes = torch.autograd.grad(loss, wanted, allow_unused=True)
        changes = {
            parameter: _plain(parameter * slope).flatten(1).sum(1) if parameter.ndim > 1 else _plain(parameter * slope)
            for parameter, slope in zip(wanted, slopes, strict=True)
            if slope is not None
        }
        for each in couplings:
            total[each.name] += _change(each.filters, gates[each.name], changes).square()
        batches += 1
    if not batches or not all(sums.isfinite().all() for sums in total.values()):
        what = "criterion 'taylor': there was no batch, or the loss or its gradient is not a finite number"
        raise ConfigError(what, hint="look at the training data, or another criterion")
    return {name: sums / batches for name, sums in total.items()}


def _gates(coupling: Coupling) -> list[_Gate]:
    norms = [member for member in coupling.members if is_norm(member.module)]
    layers = [member for member in coupling.members if isinstance(member.module, nn.Conv2d | nn.Conv3d | nn.Linear)]
    return [(torch.tensor(member.root), list(member.own), tuple(member.module.parameters(recurse=False))) for member in norms or layers]


def _change(filters: int, gates: Sequence[_Gate], changes: Mapping[nn.Parameter, Tensor]) -> Tensor:
    """What the loss would change by, to first order, without each filter: the members' outputs all become zero together."""
    change = torch.zeros(filters, dtype=torch.float64)
    for root, own, parameters in gates:
        for parameter in parameters:
            if parameter in changes:
                change.index_add_(0, root, changes[parameter][own])
    return change
