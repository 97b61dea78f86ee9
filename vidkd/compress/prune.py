"""Filter pruning: whole filters go, with all that is bound to them, and what is left is a smaller dense network.

Each filter of a coupling has a score, the lowest go first:

- ``l1``, ``l2``: mean magnitude, or root mean square, of the weights that make the filter, over the layers of the coupling, divided by the
  mean over its filters so that layers compare (norms: Li et al. 2017, arXiv 1608.08710; over a coupling: Fang et al. 2023, 2301.12900).
- ``norm_scale``: mean |gamma| of its batch normalisations (Liu et al. 2017, network slimming, arXiv 1708.06519).
- ``taylor``: the squared change of the loss to first order if the filter puts out zero, over batches (Molchanov et al. 2019, arXiv
  1906.10771, eq. 8). Where there is batch normalisation it is read there (gamma and beta times their gradients), else at weight and bias.
- ``random``: uniform noise, the control.
"""

import copy
import dataclasses
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.compress.compressed import Compressed, Net, checked_outputs, described
from vidkd.compress.graph import Coupling, couplings, matched, pieces_of
from vidkd.compress.recipe import Criterion, PruneConfig
from vidkd.models.changes import apply_changes, differing_sizes
from vidkd.models.classifier import VideoClassifier
from vidkd.models.darknet import Darknet

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


WEIGHTED = (nn.Conv2d, nn.Conv3d, nn.Linear)


def filters_to_remove(
    scores: Mapping[str, Tensor], config: PruneConfig, *, share: float, whole: Mapping[str, int] | None = None
) -> dict[str, list[int]]:
    """For each layer the filters of lowest score, in ascending order, so that `share` of all ("global") or of each ("uniform") goes.

    whole: how many filters each layer had before the first step, of which `most_of_layer` is a share; by default those that it has.
    Counts are rounded to the nearest, halves up; equal scores go in the order of layers and filters.
    Raises ConfigError if a layer would lose all its filters, or if `most_of_layer` admits less than the share.
    """
    counts = {name: _nearest(share * len(values)) for name, values in scores.items()}
    if config.scope == "global":
        counts = _global_counts(scores, config, share, whole or {})
    for name, count in counts.items():
        if count >= len(scores[name]):
            raise ConfigError(
                f"pruning by {share:.3g} would remove all {len(scores[name])} filters of {name}",
                hint="a smaller ratio, scope 'global' with most_of_layer below 1, or exclude this layer",
            )
    return {name: sorted(_ascending(scores[name])[:count]) for name, count in counts.items() if count}


def _ascending(values: Tensor) -> list[int]:
    return [int(index) for index in torch.argsort(values, stable=True)]


def _global_counts(scores: Mapping[str, Tensor], config: PruneConfig, share: float, whole: Mapping[str, int]) -> dict[str, int]:
    most = {}
    for name, values in scores.items():
        first = whole.get(name, len(values))
        most[name] = max(0, math.floor(config.most_of_layer * first + 1e-9) - (first - len(values)))
    total = sum(len(values) for values in scores.values())
    wanted = _nearest(share * total)
    if wanted > sum(most.values()):
        raise ConfigError(
            f"pruning by {share:.3g} would remove {wanted} of {total} filters, but only {sum(most.values())} may go",
            most_of_layer=config.most_of_layer,
            hint="a smaller ratio or a larger most_of_layer",
        )
    owners = [name for name, values in scores.items() for _ in range(len(values))]
    counts = dict.fromkeys(scores, 0)
    for index in _ascending(torch.cat(list(scores.values()))):
        if wanted and counts[owners[index]] < most[owners[index]]:
            counts[owners[index]] += 1
            wanted -= 1
    return counts


def _nearest(number: float) -> int:
    return math.floor(number + 0.5)


NOT_SEEN = "no filter can go: it is in no part of the network that can be pruned"
NOT_CHOSEN = "keeps all its filters: none was weak enough, or not as many as may only go together"
NOT_JUDGED = "the criterion does not apply: no batch normalisation"


def prune(
    net: Net, example: Tensor, config: PruneConfig, *, step: int = 1, whole: nn.Module | None = None, losses: LossBatches | None = None
) -> Compressed[Net]:
    """Remove filters of a `VideoClassifier` (example: a raw clip), a `Darknet` (images) or another network (its input).

    step: which of `config.steps`, from 1; give it the network that the step before left, repaired. whole: the network before the first
    step, needed by the later ones of scope "global", whose `most_of_layer` is a share of its filters. losses: for criterion "taylor".
    The result was run on the example and puts out the same shapes. Raises ConfigError if nothing may go, if a layer would lose all its
    filters, or if the network cannot be understood; MissingExtraError without torch-pruning.
    """
    matched(config.exclude, (name for name, _ in net.named_modules() if name))  # raises for a pattern that fits nothing
    working = copy.deepcopy(net)
    found = couplings(pieces_of(working, example), config.exclude)
    free = [each for each in found if each.excluded is None]
    judged = scores(working, free, config.criterion, seed=config.seed, losses=losses)
    reasons = {each.name: each.excluded or (NOT_CHOSEN if each.name in judged else NOT_JUDGED) for each in found}
    if not judged:
        raise ConfigError("no filter of this network may go", **{name: reasons[name] for name in list(reasons)[:4]})
    first = None if whole is None else {name: len(whole.get_submodule(name).get_parameter("weight")) for name in judged}
    chosen = filters_to_remove(judged, config, share=config.share(step), whole=first)
    for each in free:
        if each.name in chosen:
            each.remove(chosen[each.name])
    settings = {**dataclasses.asdict(config), "exclude": list(config.exclude), "step": step}
    plan = {"kind": "prune", "settings": settings, "layers": differing_sizes(net, working), "kept": _kept(free, chosen)}
    made = _rebuilt(net, working, example, plan)
    owners = {member.name: each.name for each in found for member in each.members} | {each.name: each.name for each in found}
    layers, left = {}, {}
    for name, layer in layers_with_weights(net).items():
        before, after = (len(module.get_parameter("weight")) for module in (layer, working.get_submodule(name)))
        owner = owners.get(name)
        if after < before:
            layers[name] = f"{before} -> {after} filters" + ("" if owner == name else f", bound to those of {owner}")
        else:
            left[name] = NOT_SEEN if owner is None else reasons[owner]
    return Compressed(model=made, plan=plan, layers=layers, left=left)


def _kept(couplings: Sequence[Coupling], chosen: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Of each layer that loses outputs the indices of those that stay."""
    kept: dict[str, list[int]] = {}
    for each in couplings:
        gone = set(chosen.get(each.name, ()))
        for member in each.members if gone else ():
            if isinstance(member.module, WEIGHTED):
                kept[member.name] = sorted(own for own, root in zip(member.own, member.root, strict=True) if root not in gone)
    return kept


def layers_with_weights(net: nn.Module) -> dict[str, nn.Module]:
    """The convolutions and linear layers of a network by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, WEIGHTED)}


def _rebuilt(net: Net, working: nn.Module, example: Tensor, plan: dict[str, Any]) -> Net:
    """The pruned network as a checkpoint would rebuild it: by the plan, then its weights. So a plan that is not enough fails here."""
    checked_outputs(working, example, copy.deepcopy(net))
    if isinstance(working, Darknet):
        made = cast(Net, described(working))
    else:
        if isinstance(working, VideoClassifier):
            with torch.no_grad():
                features = working.backbone(working.normalise(example))
            channels = working.backbone.channels
            plan["stages"] = {name: feature.shape[1] for name, feature in features.items() if feature.shape[1] != channels[name]}
        made = copy.deepcopy(net)
        apply_changes(made, [plan])
        try:
            made.load_state_dict(working.state_dict())
        except RuntimeError as error:
            raise ConfigError(
                "pruning changed layers that a plan cannot state: others than convolutions, linear layers and batch normalisation",
                reason=textwrap.shorten(str(error), 300),
                hint="exclude the layers before them",
            ) from error
    return made.eval()
